//! The actor over a log and a decider in memory.

mod counters;
mod fake;
mod sharing;
mod superseded;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tidemill_core::Rejection;
use tidemill_replica::ProposeError;
use tidemill_types::limits::BATCHES_IN_FLIGHT_MAX;

use self::{
    counters::Add,
    fake::{Fixture, settled},
};
use super::*;

#[tokio::test]
async fn a_follower_names_the_leader() {
    let fixture = Fixture::follower(7);
    let error = fixture.handle.ask(Add::one("a")).await;
    assert_eq!(
        error,
        Err(AskError::NotLeader {
            leader: Some(NodeId(7))
        })
    );
    let error = fixture.handle.read().await.err();
    assert_eq!(
        error,
        Some(AskError::NotLeader {
            leader: Some(NodeId(7))
        })
    );
}

#[tokio::test]
async fn answers_when_the_batch_is_applied() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let ask = fixture.ask("a");
    fixture.log.proposals(1).await;
    assert!(!ask.is_finished(), "nothing is applied yet");
    fixture.log.release_all();
    assert_eq!(ask.await.expect("no panic"), Ok(1));
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
    settled(|| fixture.effects() == ["a=1", "a=2"]).await;
}

#[tokio::test]
async fn what_is_ready_when_a_batch_leaves_goes_into_the_next() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let mut asks = Vec::new();
    for n in 0..BATCHES_IN_FLIGHT_MAX {
        asks.push(fixture.ask("a"));
        fixture.log.proposals(n + 1).await;
    }
    for _ in 0..100 {
        asks.push(fixture.ask("a"));
    }
    settled(|| fixture.decided() == 100 + BATCHES_IN_FLIGHT_MAX).await;
    assert_eq!(
        fixture.log.proposed(),
        BATCHES_IN_FLIGHT_MAX,
        "no more in flight"
    );
    fixture.log.release(1);
    fixture.log.proposals(BATCHES_IN_FLIGHT_MAX + 1).await;
    fixture.log.release_all();
    for (at, ask) in asks.into_iter().enumerate() {
        assert_eq!(ask.await.expect("no panic"), Ok(at as u64 + 1));
    }
    assert_eq!(
        fixture.log.proposed(),
        BATCHES_IN_FLIGHT_MAX + 1,
        "a hundred in one batch"
    );
}

#[tokio::test]
async fn a_batch_with_many_bytes_is_full_and_the_rest_follows() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    // Two rows fill a batch, however small the commands were.
    fixture
        .state
        .row_bytes
        .store(tidemill_types::limits::BATCH_BYTES_MAX / 2, SeqCst);
    fixture.log.hold();
    let mut asks = Vec::new();
    for n in 0..BATCHES_IN_FLIGHT_MAX {
        asks.push(fixture.ask("a"));
        fixture.log.proposals(n + 2).await;
    }
    asks.extend(["b", "c", "d", "e"].map(|name| fixture.ask(name)));
    settled(|| fixture.decided() == BATCHES_IN_FLIGHT_MAX + 3).await;
    fixture.log.release_all();
    for ask in asks {
        assert!(ask.await.expect("no panic").is_ok());
    }
    assert_eq!(
        fixture.log.proposed(),
        1 + BATCHES_IN_FLIGHT_MAX + 2,
        "two of the four in each of two batches"
    );
}

#[tokio::test]
async fn an_unknown_outcome_drops_everything_that_rests_on_it() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    fixture.log.hold();
    let mut proposed = Vec::new();
    for n in 0..BATCHES_IN_FLIGHT_MAX {
        proposed.push(fixture.ask("a"));
        fixture.log.proposals(n + 2).await;
    }
    let decided = fixture.ask("a");
    settled(|| fixture.decided() == BATCHES_IN_FLIGHT_MAX + 2).await;
    fixture.log.fail(ProposeError::Unknown);
    for ask in proposed {
        assert_eq!(ask.await.expect("no panic"), Err(AskError::Unknown));
    }
    let error = decided
        .await
        .expect("no panic")
        .expect_err("never proposed");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    // The next epoch stands on what was applied, and on nothing else.
    fixture.log.release_all();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
    assert_eq!(fixture.epochs_ended(), 1);
    settled(|| fixture.effects() == ["a=1", "a=2"]).await;
}

#[tokio::test]
async fn what_the_log_refuses_before_it_appends_is_unavailable() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let ask = fixture.ask("a");
    fixture.log.proposals(1).await;
    fixture.log.fail(ProposeError::NoSpace);
    let error = ask.await.expect("no panic").expect_err("refused");
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn a_command_too_large_for_a_batch_is_refused() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let ask = fixture.ask("a");
    fixture.log.proposals(1).await;
    fixture.log.fail(ProposeError::TooLarge { got: 2, max: 1 });
    let error = ask.await.expect("no panic").expect_err("refused");
    assert_eq!(error.class(), ErrorClass::Invalid);
}

#[tokio::test]
async fn lost_leadership_leaves_what_was_proposed_unknown() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let ask = fixture.ask("a");
    fixture.log.proposals(1).await;
    fixture.log.lead(false, Some(NodeId(3)));
    assert_eq!(ask.await.expect("no panic"), Err(AskError::Unknown));
    let error = fixture.handle.ask(Add::one("a")).await;
    assert_eq!(
        error,
        Err(AskError::NotLeader {
            leader: Some(NodeId(3))
        })
    );
    settled(|| fixture.epochs_ended() == 1).await;
    fixture.log.release_all();
    fixture.log.lead(true, None);
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
}

#[tokio::test]
async fn a_rejection_waits_for_what_it_may_rest_on() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let first = fixture.ask("a");
    fixture.log.proposals(1).await;
    let rejected = fixture.ask("reject");
    settled(|| fixture.decided() == 2).await;
    assert!(!rejected.is_finished());
    fixture.log.release_all();
    assert_eq!(first.await.expect("no panic"), Ok(1));
    let rejection = Rejection::invalid("name", "reject");
    assert_eq!(
        rejected.await.expect("no panic"),
        Err(AskError::Rejected(rejection.clone()))
    );
    // With nothing in flight a read barrier shows that this node still leads.
    let barriers = fixture.log.barriers();
    let error = fixture.handle.ask(Add::one("reject")).await;
    assert_eq!(error, Err(AskError::Rejected(rejection)));
    assert_eq!(fixture.log.barriers(), barriers + 1);
    assert_eq!(fixture.log.proposed(), 1, "a rejection is no batch");
}

#[tokio::test]
async fn a_panic_restarts_from_rows_and_twice_quarantines() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    let error = fixture
        .handle
        .ask(Add::one("panic"))
        .await
        .expect_err("it panicked");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert_eq!(
        fixture.handle.ask(Add::one("a")).await,
        Ok(2),
        "rows survive"
    );
    let error = fixture
        .handle
        .ask(Add::one("panic"))
        .await
        .expect_err("it panicked");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    let error = fixture.handle.ask(Add::one("panic")).await;
    assert_eq!(
        error,
        Err(AskError::Rejected(Rejection::Quarantined(
            "on purpose".into()
        )))
    );
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(3));
    settled(|| {
        fixture
            .effects()
            .last()
            .is_some_and(|effect| effect == "a=3")
    })
    .await;
    let restarts = fixture.effects();
    let restarts: Vec<_> = restarts
        .iter()
        .filter(|e| e.starts_with("restarted"))
        .collect();
    assert_eq!(restarts, ["restarted add false", "restarted add true"]);
    assert_eq!(fixture.metrics.panics.with(&["1"]).get(), 2);
    assert_eq!(fixture.metrics.quarantined.with(&["1"]).get(), 1);
}

#[tokio::test]
async fn what_was_proposed_before_a_panic_is_answered() {
    let fixture = Fixture::leader();
    fixture.log.hold();
    let first = fixture.ask("a");
    fixture.log.proposals(1).await;
    let poison = fixture.ask("panic");
    assert!(poison.await.expect("no panic").is_err());
    assert!(!first.is_finished());
    fixture.log.release_all();
    assert_eq!(first.await.expect("no panic"), Ok(1));
}

#[tokio::test]
async fn a_tick_that_panics_leaves_commands_alone() {
    let fixture = Fixture::leader();
    fixture.state.tick_panics.store(true, SeqCst);
    assert_eq!(fixture.handle.ask(Add::one("due")).await, Ok(1));
    settled(|| fixture.metrics.panics.with(&["1"]).get() >= 2).await;
    // Meanwhile commands go on; one may meet a restart.
    loop {
        match fixture.handle.ask(Add::one("a")).await {
            Ok(_) => break,
            Err(error) => assert_ne!(error.class(), ErrorClass::Corrupt),
        }
    }
    fixture.state.tick_panics.store(false, SeqCst);
    assert!(fixture.handle.ask(Add::one("due")).await.is_ok());
    settled(|| fixture.state.ticks.load(SeqCst) > 0).await;
}

#[tokio::test]
async fn damage_stops_the_group_loudly() {
    let fixture = Fixture::leader();
    let error = fixture
        .handle
        .ask(Add::one("damage"))
        .await
        .expect_err("damage");
    assert_eq!(error.class(), ErrorClass::Corrupt);
    settled(|| fixture.handle.fault().is_some()).await;
    let error = fixture
        .handle
        .ask(Add::one("a"))
        .await
        .expect_err("stopped");
    assert_eq!(error.class(), ErrorClass::Corrupt);
    let error = fixture.handle.read().await.err().expect("stopped");
    assert_eq!(error.class(), ErrorClass::Corrupt);
    assert_eq!(fixture.metrics.faults.with(&["1"]).get(), 1);
    let retired = fixture.log.retired.lock().expect("not poisoned").clone();
    assert_eq!(retired.len(), 1, "another node is to lead: {retired:?}");
}

#[tokio::test]
async fn a_low_disk_refuses_new_work_only() {
    let fixture = Fixture::leader();
    fixture.disk_low.store(true, SeqCst);
    let error = fixture
        .handle
        .ask(Add::one("a"))
        .await
        .expect_err("new work");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert_eq!(fixture.handle.ask(Add::progress("a")).await, Ok(1));
    fixture.disk_low.store(false, SeqCst);
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
}

#[tokio::test]
async fn a_full_log_refuses_instead_of_letting_wait() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    fixture.log.refuse_epochs(Some(ProposeError::NoSpace));
    fixture.log.lead(false, None);
    settled(|| fixture.epochs_ended() == 1).await;
    fixture.log.lead(true, None);
    let error = fixture
        .handle
        .ask(Add::one("a"))
        .await
        .expect_err("no epoch begins");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    fixture.log.refuse_epochs(None);
    settled(|| fixture.epochs_began() == 2).await;
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
}

#[tokio::test]
async fn ticks_come_when_they_are_due() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("later")).await, Ok(1));
    let ticks = fixture.state.ticks.load(SeqCst);
    fixture.advance(Duration::from_secs(3600));
    settled(|| fixture.state.ticks.load(SeqCst) > ticks).await;
}

#[tokio::test]
async fn stops_when_all_in_flight_is_answered() {
    let mut fixture = Fixture::leader();
    fixture.log.hold();
    let ask = fixture.ask("a");
    fixture.log.proposals(1).await;
    fixture.stop.cancel();
    let error = fixture
        .handle
        .ask(Add::one("a"))
        .await
        .expect_err("stopping");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(!ask.is_finished());
    fixture.log.release_all();
    assert_eq!(ask.await.expect("no panic"), Ok(1));
    fixture
        .task
        .take()
        .expect("spawned")
        .await
        .expect("the actor ends well");
}
