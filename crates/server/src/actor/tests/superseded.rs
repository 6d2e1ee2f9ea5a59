//! A leader that has been deposed and has not noticed: it reads its successor's rows. They do not fit
//! its memory, and that is neither damage nor the fault of the command that met them.

use super::*;

#[tokio::test]
async fn a_successors_rows_are_no_damage() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    fixture.log.usurp();
    let error = fixture.handle.ask(Add::one("damage")).await;
    let error = error.expect_err("this epoch is over");
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    // It leads on, as far as it knows: with a new epoch, on the rows as they are.
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
    assert_eq!(fixture.handle.fault(), None);
    assert_eq!(fixture.metrics.faults.with(&["1"]).get(), 0);
    // Real damage still stops the group.
    let error = fixture.handle.ask(Add::one("damage")).await;
    assert_eq!(error.expect_err("damage").class(), ErrorClass::Corrupt);
}

#[tokio::test]
async fn a_panic_on_a_successors_rows_is_not_held_against_the_command() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    for _ in 0..3 {
        fixture.log.usurp();
        let error = fixture.handle.ask(Add::one("panic")).await;
        let error = error.expect_err("this epoch is over");
        assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
        // The next epoch has begun when this is answered.
        assert!(fixture.handle.ask(Add::one("a")).await.is_ok());
    }
    assert_eq!(fixture.metrics.panics.with(&["1"]).get(), 0);
    assert_eq!(fixture.metrics.quarantined.with(&["1"]).get(), 0);
}

#[tokio::test]
async fn an_answer_that_rests_on_an_epoch_that_is_over_is_not_given() {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    fixture.log.usurp();
    // The barrier says that this node leads, and so it does: again.
    let error = fixture.handle.ask(Add::one("reject")).await;
    let error = error.expect_err("this epoch is over");
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    let rejection = Rejection::invalid("name", "reject");
    let error = fixture.handle.ask(Add::one("reject")).await;
    assert_eq!(error, Err(AskError::Rejected(rejection)), "but by the next");
}

/// What happens while a new leader reads the rows, and whether it makes sense of them.
async fn superseded_while_it_recovers(damaged: bool) {
    let fixture = Fixture::leader();
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(1));
    let log = Arc::clone(&fixture.log);
    let state = &fixture.state;
    *state.recovering.lock().expect("not poisoned") = Some(Box::new(move || {
        log.usurp();
        damaged
    }));
    fixture.log.lead(false, None);
    settled(|| fixture.epochs_ended() == 1).await;
    fixture.log.lead(true, None);
    settled(|| state.recovering.lock().expect("not poisoned").is_none()).await;
    // It waits for the epoch after that one, and is decided by it: the fence refuses it nothing.
    assert_eq!(fixture.handle.ask(Add::one("a")).await, Ok(2));
    assert_eq!(fixture.handle.fault(), None);
    assert_eq!(fixture.epochs_began(), 2, "one of the three never began");
}

#[tokio::test]
async fn rows_that_change_while_they_are_read_are_read_again() {
    superseded_while_it_recovers(false).await;
}

#[tokio::test]
async fn rows_that_make_no_sense_while_they_change_are_read_again() {
    superseded_while_it_recovers(true).await;
}
