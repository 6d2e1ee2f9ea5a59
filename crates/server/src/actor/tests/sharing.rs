//! Who gets how much of a leader that has too much to do, and when. The clock is held, so that nothing here
//! depends on how fast the machine is.

use tidemill_types::limits::{
    BATCH_ROWS_MAX, BATCH_ROWS_MIN, BATCHES_IN_FLIGHT_MAX, COMMANDS_PER_TURN_MAX,
    MAILBOX_BYTES_MAX, MAILBOX_WAIT_MS_MAX,
};

use super::{super::line::NEW_WORK_MAX, *};

/// A leader that decides nothing until its epochs are released: everything waits.
async fn busy() -> Fixture {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("z")).await, Ok(1));
    fixture.log.hold_epochs();
    fixture.log.lead(false, None);
    settled(|| fixture.epochs_ended() == 1).await;
    fixture.log.lead(true, None);
    fixture.state.order.lock().expect("not poisoned").clear();
    fixture
}

type Asked = JoinHandle<Result<u64, AskError>>;

/// Asks until one is shed; gives those that wait, and what the last one was told.
async fn flood(fixture: &Fixture, name: &str) -> (Vec<Asked>, AskError) {
    let mut waiting = Vec::new();
    while waiting.len() <= MAILBOX_COMMANDS_MAX {
        let ask = fixture.ask(name);
        tokio::task::yield_now().await;
        if ask.is_finished() {
            let shed = ask.await.expect("no panic").expect_err("it is shed");
            return (waiting, shed);
        }
        waiting.push(ask);
    }
    panic!("nothing was shed");
}

async fn wait_for(fixture: &Fixture, name: &str, count: usize) -> Vec<Asked> {
    let mut waiting = Vec::new();
    for _ in 0..count {
        waiting.push(fixture.ask(name));
        tokio::task::yield_now().await;
    }
    waiting
}

async fn all_done(asked: Vec<Asked>) {
    for ask in asked {
        assert!(ask.await.expect("no panic").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn sheds_new_work_before_the_mailbox_is_full() {
    let fixture = busy().await;
    let (mut asks, shed) = flood(&fixture, "a").await;
    assert!(matches!(shed, AskError::Overloaded { retry_after_ms } if retry_after_ms > 0));
    assert_eq!(asks.len(), NEW_WORK_MAX / 2, "others find places");
    // However many come, some places of the mailbox are not for new work.
    for name in ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] {
        let (more, _) = flood(&fixture, name).await;
        assert!(!more.is_empty(), "{name} found no place");
        asks.extend(more);
    }
    assert!(asks.len() <= NEW_WORK_MAX && asks.len() > NEW_WORK_MAX * 9 / 10);
    assert_eq!(
        fixture.handle.tell(Add::progress("z")).await,
        Ok(()),
        "ends of work are let in"
    );
    fixture.log.release_epochs();
    all_done(asks).await;
    assert_eq!(fixture.handle.ask(Add::one("z")).await, Ok(3));
    assert_eq!(fixture.metrics.commands_shed.with(&["queue"]).get(), 11);
}

#[tokio::test(start_paused = true)]
async fn owners_take_turns_however_much_one_asks() {
    let fixture = busy().await;
    let mut asks = wait_for(&fixture, "a", 1_000).await;
    asks.extend(wait_for(&fixture, "b", 2).await);
    asks.extend(wait_for(&fixture, "c", 1).await);
    fixture.log.release_epochs();
    all_done(asks).await;
    let order = fixture.state.order.lock().expect("not poisoned").clone();
    assert_eq!(order[..6], ["a", "b", "c", "a", "b", "a"]);
    assert_eq!(order.len(), 1_003);
}

#[tokio::test(start_paused = true)]
async fn ends_of_work_go_first_and_shut_nobody_out() {
    let fixture = busy().await;
    let asks = wait_for(&fixture, "n", 3).await;
    for _ in 0..8 {
        fixture.handle.tell(Add::progress("p")).await.expect("room");
    }
    fixture.log.release_epochs();
    all_done(asks).await;
    let order = fixture.state.order.lock().expect("not poisoned").join("");
    assert_eq!(order, "ppppnppppnn");
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_is_sent_no_company() {
    let fixture = busy().await;
    let mut asks = wait_for(&fixture, "a", 10).await;
    let limit = Duration::from_millis(MAILBOX_WAIT_MS_MAX);
    tokio::time::advance(limit / 2).await;
    asks.extend(wait_for(&fixture, "a", 1).await);
    tokio::time::advance(limit).await;
    let (none, shed) = flood(&fixture, "a").await;
    assert!(none.is_empty());
    // It is told to come when what waits will have gone by.
    assert!(
        matches!(shed, AskError::Overloaded { retry_after_ms } if retry_after_ms > MAILBOX_WAIT_MS_MAX),
        "{shed:?}"
    );
    assert_eq!(fixture.metrics.commands_shed.with(&["wait"]).get(), 1);
    // Another one had no part in that.
    asks.extend(wait_for(&fixture, "b", 1).await);
    fixture.log.release_epochs();
    all_done(asks).await;
    // It is over as soon as the line is gone.
    all_done(wait_for(&fixture, "a", 1).await).await;
}

#[tokio::test(start_paused = true)]
async fn large_commands_share_the_mailboxs_bytes() {
    let fixture = busy().await;
    let fitting = MAILBOX_BYTES_MAX >> 20;
    let mut asks = wait_for(&fixture, "1MiB", fitting).await;
    let shed = fixture.ask("1MiB").await.expect("no panic");
    assert!(matches!(shed, Err(AskError::Overloaded { .. })), "{shed:?}");
    assert_eq!(fixture.metrics.commands_shed.with(&["bytes"]).get(), 1);
    asks.extend(wait_for(&fixture, "small", 1).await);
    fixture.log.release_epochs();
    all_done(asks).await;
    all_done(wait_for(&fixture, "1MiB", 1).await).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_has_so_many_commands_and_a_batch_so_many_rows() {
    let fixture = busy().await;
    fixture.log.hold();
    // While batches find a place one leaves after each turn; then one is filled, and no more is decided.
    let fitting = BATCHES_IN_FLIGHT_MAX * COMMANDS_PER_TURN_MAX + BATCH_ROWS_MAX;
    let telling = {
        let handle = fixture.handle.clone();
        tokio::spawn(async move {
            for number in 0..fitting + 500 {
                let command = Add::progress(&format!("row {number}"));
                handle.tell(command).await.expect("it waits for room");
            }
        })
    };
    settled(|| fixture.handle.shared.mailbox.capacity() == 0).await;
    let proposed = fixture.log.proposed();
    let decided = fixture.decided();
    fixture.log.release_epochs();
    settled(|| fixture.decided() >= decided + fitting).await;
    telling.await.expect("no panic");
    assert_eq!(fixture.decided(), decided + fitting, "the batch is full");
    assert_eq!(fixture.log.proposed(), proposed + BATCHES_IN_FLIGHT_MAX);
    fixture.log.release_all();
    settled(|| fixture.decided() == decided + fitting + 500).await;
}

#[tokio::test(start_paused = true)]
async fn beside_a_quiet_flow_the_batches_of_a_flood_are_few_and_short() {
    let fixture = busy().await;
    fixture.log.hold();
    let mut asks = Vec::new();
    for row in 0..1_000 {
        asks.extend(wait_for(&fixture, &format!("a{row}"), 1).await);
    }
    asks.extend(wait_for(&fixture, "b", 1).await);
    let (proposed, decided) = (fixture.log.proposed(), fixture.decided());
    fixture.log.release_epochs();
    // The first one has a turn's work and shows who is there; the next two are short, and the last of them has to wait.
    let most = COMMANDS_PER_TURN_MAX + 2 * BATCH_ROWS_MIN;
    settled(|| fixture.decided() >= decided + most).await;
    assert_eq!(fixture.decided(), decided + most);
    assert_eq!(fixture.log.proposed(), proposed + 2);
    fixture.log.release_all();
    all_done(asks).await;
}
