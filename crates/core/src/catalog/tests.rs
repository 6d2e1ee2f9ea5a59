//! The catalog is given commands; replies, rows and journal are looked at.

use tidemill_rows::{
    Batch, Epoch,
    journal::{JournalEntry, JournalRecord},
    key::after_prefix,
};

use super::*;
use crate::{
    command::{ApplyFlow, Restarted},
    flow,
    ledger::Rows,
    memory::MemoryRows,
};

struct Bench {
    catalog: Catalog,
    rows: MemoryRows,
    now: Timestamp,
    seq: u64,
    requests: u64,
    effects: Vec<CatalogEffect>,
}

const DOCUMENT: &str =
    "name: orders\ngraph:\n  nodes: [{id: a, componentId: w, function: f}]\n  edges: []\n";

impl Bench {
    fn new() -> Self {
        let rows = MemoryRows::default();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let catalog = Catalog::recover(CatalogConfig::default(), PartitionId::CATALOG, now, &rows)
            .expect("no damage");
        Self {
            catalog,
            rows,
            now,
            seq: 0,
            requests: 0,
            effects: Vec::new(),
        }
    }

    fn ask(&mut self, command: CatalogCommand) -> Result<CatalogReply, Rejection> {
        let reply = self
            .catalog
            .handle(command, self.now, &self.rows)
            .expect("no damage");
        self.commit();
        reply
    }

    fn commit(&mut self) {
        if self.catalog.has_batch() {
            self.seq += 1;
            let taken = self.catalog.take_batch(Epoch::default(), self.seq);
            let batch = Batch::decode(taken.expect("no damage").into_bytes()).expect("a batch");
            let batch = batch.mutations;
            self.rows.apply(&batch);
            self.catalog.applied(self.seq);
        }
        self.effects.extend(self.catalog.take_effects());
    }

    fn advance(&mut self, ms: u64) {
        self.now = self.now.plus_millis(ms);
        self.catalog.tick(self.now, &self.rows).expect("no damage");
        self.commit();
    }

    fn fail_over(&mut self) {
        self.catalog = Catalog::recover(
            CatalogConfig::default(),
            PartitionId::CATALOG,
            self.now,
            &self.rows,
        )
        .expect("no damage");
        self.seq = 0;
        self.effects = self.catalog.take_effects();
    }

    fn request(&mut self) -> String {
        self.requests += 1;
        format!("r{}", self.requests)
    }

    fn apply_as(
        &mut self,
        document: &str,
        revision: u64,
        request_id: &str,
    ) -> Result<CatalogReply, Rejection> {
        let document = Box::new(flow::parse(document).expect("valid").remove(0));
        self.requests += 1;
        self.ask(CatalogCommand::Apply(ApplyFlow {
            document,
            flow: None,
            expected_revision: revision,
            create_only: false,
            request_id: request_id.into(),
            entropy: self.requests,
            partitions: 2,
        }))
    }

    fn apply(&mut self, document: &str) -> CatalogReply {
        let request_id = self.request();
        self.apply_as(document, 0, &request_id).expect("applied")
    }

    fn publish(&mut self) -> Result<CatalogReply, Rejection> {
        let request_id = self.request();
        self.ask(CatalogCommand::Publish {
            flow: "orders".into(),
            request_id,
        })
    }

    fn start(&mut self, version: u32) -> Result<CatalogReply, Rejection> {
        let request_id = self.request();
        let flow = "orders".into();
        self.ask(CatalogCommand::Start {
            flow,
            version,
            without_workers: false,
            request_id,
        })
    }

    fn stop(&mut self) -> Result<CatalogReply, Rejection> {
        let request_id = self.request();
        self.ask(CatalogCommand::Stop {
            flow: "orders".into(),
            cancel_running: false,
            request_id,
        })
    }

    fn row(&self) -> FlowRow {
        self.catalog
            .find("orders", &self.rows)
            .expect("no damage")
            .expect("a flow")
            .1
    }

    fn kinds(&self) -> Vec<String> {
        let prefix = key::prefix(PartitionId::CATALOG, Table::Journal);
        let to = after_prefix(&prefix).expect("an end");
        let rows = self
            .rows
            .scan(&prefix, &to, usize::MAX, false)
            .expect("rows");
        let kind = |(_, value)| {
            let entry = JournalEntry::from_bytes(value).expect("an entry");
            JournalRecord::from_bytes(entry.record)
                .expect("a record")
                .kind
        };
        rows.into_iter().map(kind).collect()
    }
}

#[test]
fn a_draft_is_created_changed_and_left_alone() {
    let mut bench = Bench::new();
    let created = bench.apply(DOCUMENT);
    assert!(created.created && created.changed);
    assert!((1..=2).contains(&created.flow.partition().0));
    let same = bench.apply(DOCUMENT);
    assert_eq!(
        same,
        CatalogReply {
            created: false,
            changed: false,
            ..created.clone()
        }
    );
    let changed = bench.apply(&DOCUMENT.replace("function: f", "function: g"));
    assert!(!changed.created && changed.changed);
    assert_eq!((changed.flow, bench.row().revision), (created.flow, 2));
    assert_eq!(bench.kinds(), ["flow.created", "flow.modified"]);
    assert_eq!(
        bench.apply_as(DOCUMENT, 1, "stale"),
        Err(Rejection::RevisionMismatch {
            expected: 1,
            current: 2
        })
    );
}

#[test]
fn a_request_id_gives_the_first_answer_until_it_is_forgotten() {
    let mut bench = Bench::new();
    let first = bench.apply_as(DOCUMENT, 0, "same").expect("applied");
    bench.fail_over();
    assert_eq!(bench.apply_as(DOCUMENT, 0, "same"), Ok(first));
    let other = DOCUMENT.replace("orders", "other");
    assert_eq!(
        bench.apply_as(&other, 0, "same"),
        Err(Rejection::RequestIdReused("same".into()))
    );
    bench.advance(25 * 60 * 60 * 1_000);
    assert!(bench.apply_as(&other, 0, "same").expect("applied").created);
}

#[test]
fn the_same_content_is_the_same_version() {
    let mut bench = Bench::new();
    bench.apply(DOCUMENT);
    let first = bench.publish().expect("published");
    assert_eq!((first.version, first.created), (1, true));
    let again = bench.publish().expect("published");
    assert_eq!((again.version, again.created), (1, false));
    bench.apply(&DOCUMENT.replace("function: f", "function: g"));
    assert_eq!(bench.publish().expect("published").version, 2);
    bench.apply(DOCUMENT);
    assert_eq!(
        bench.publish().expect("published").version,
        1,
        "back to what was version 1"
    );
}

#[test]
fn a_flow_starts_and_stops_through_its_home() {
    let mut bench = Bench::new();
    let id = bench.apply(DOCUMENT).flow;
    assert_eq!(bench.start(0), Err(Rejection::NothingPublished(id)));
    bench.publish().expect("published");
    assert_eq!(
        bench.start(7),
        Err(Rejection::VersionNotFound {
            flow: id,
            version: 7
        })
    );
    assert!(bench.start(0).expect("starting").changed);
    assert_eq!(bench.row().status, FlowStatus::Starting);
    assert!(bench.effects.contains(&CatalogEffect::HandOver(id)));
    assert!(!bench.start(0).expect("no-op").changed);
    bench.fail_over();
    assert_eq!(
        bench.effects,
        [CatalogEffect::HandOver(id)],
        "a new leader takes the hand-over up"
    );
    assert!(
        bench
            .ask(CatalogCommand::Armed {
                flow: id,
                activation: 1
            })
            .expect("active")
            .changed
    );
    assert_eq!(bench.row().status, FlowStatus::Active);
    assert!(
        !bench
            .ask(CatalogCommand::Armed {
                flow: id,
                activation: 1
            })
            .expect("no-op")
            .changed
    );
    bench.advance(60_000);
    assert_eq!(
        bench.row().status,
        FlowStatus::Active,
        "the deadline is over once it is active"
    );
    assert!(bench.stop().expect("stopping").changed);
    assert!(!bench.stop().expect("no-op").changed);
    let request_id = bench.request();
    let delete = CatalogCommand::Delete {
        flow: "orders".into(),
        request_id,
    };
    assert!(matches!(
        bench.ask(delete.clone()),
        Err(Rejection::WrongStatus { .. })
    ));
    assert!(
        bench
            .ask(CatalogCommand::Disarmed {
                flow: id,
                activation: 1
            })
            .expect("inactive")
            .changed
    );
    assert_eq!(
        (bench.row().status, bench.row().active_version),
        (FlowStatus::Inactive, 0)
    );
    assert!(bench.ask(delete).expect("deleted").changed);
    assert_eq!(
        bench.publish(),
        Err(Rejection::FlowNotFound("orders".into()))
    );
    assert_eq!(
        bench.kinds(),
        [
            "flow.created",
            "flow.published",
            "flow.starting",
            "flow.started",
            "flow.stopping",
            "flow.stopped",
            "flow.deleted"
        ]
    );
}

#[test]
fn a_refused_or_unanswered_start_ends_inactive_with_its_reason() {
    let mut bench = Bench::new();
    let id = bench.apply(DOCUMENT).flow;
    bench.publish().expect("published");
    bench.start(0).expect("starting");
    let refused = CatalogCommand::ArmRefused {
        flow: id,
        activation: 1,
        reason: "no worker serves w/f".into(),
    };
    bench.ask(refused).expect("taken");
    assert_eq!(
        bench.row().status,
        FlowStatus::Stopping,
        "a late arm must become stale first"
    );
    bench
        .ask(CatalogCommand::Disarmed {
            flow: id,
            activation: 1,
        })
        .expect("inactive");
    assert_eq!(bench.row().status, FlowStatus::Inactive);
    assert_eq!(bench.row().reason, "no worker serves w/f");
    bench.start(0).expect("starting again");
    bench.fail_over();
    bench.advance(30_000);
    assert_eq!(bench.row().status, FlowStatus::Stopping);
    assert!(
        bench.row().reason.contains("30 s"),
        "{}",
        bench.row().reason
    );
    assert!(matches!(
        bench.ask(CatalogCommand::Armed {
            flow: id,
            activation: 1
        }),
        Err(Rejection::StaleActivation {
            got: 1,
            current: 2,
            ..
        })
    ));
    bench
        .ask(CatalogCommand::Disarmed {
            flow: id,
            activation: 2,
        })
        .expect("inactive");
    assert!(bench.kinds().contains(&"flow.failed".to_owned()));
}

#[test]
fn a_flow_that_is_only_to_be_created_replaces_none() {
    let mut bench = Bench::new();
    let create = |request_id: &str| {
        CatalogCommand::Apply(ApplyFlow {
            document: Box::new(flow::parse(DOCUMENT).expect("valid").remove(0)),
            flow: None,
            expected_revision: 0,
            create_only: true,
            request_id: request_id.into(),
            entropy: 7,
            partitions: 2,
        })
    };
    let created = bench.ask(create("one")).expect("created");
    assert!(created.created);
    assert_eq!(bench.ask(create("one")), Ok(created.clone()), "a repeat");
    assert_eq!(
        bench.ask(create("two")),
        Err(Rejection::NameTaken {
            name: "orders".into(),
            owner: created.flow
        })
    );
}

#[test]
fn names_are_unique_and_can_be_changed() {
    let mut bench = Bench::new();
    let orders = bench.apply(DOCUMENT).flow;
    let other = bench.apply(&DOCUMENT.replace("orders", "other")).flow;
    let rename = |flow, name: &str, entropy| {
        CatalogCommand::Apply(ApplyFlow {
            document: Box::new(
                flow::parse(&DOCUMENT.replace("orders", name))
                    .expect("valid")
                    .remove(0),
            ),
            flow: Some(flow),
            expected_revision: 0,
            create_only: false,
            request_id: format!("rename{entropy}"),
            entropy,
            partitions: 2,
        })
    };
    assert_eq!(
        bench.ask(rename(other, "orders", 100)),
        Err(Rejection::NameTaken {
            name: "orders".into(),
            owner: orders
        })
    );
    assert!(
        bench
            .ask(rename(orders, "invoices", 101))
            .expect("renamed")
            .changed
    );
    assert!(
        bench
            .ask(rename(other, "orders", 102))
            .expect("the name is free")
            .changed
    );
}

#[test]
fn a_quarantined_command_is_remembered() {
    let mut bench = Bench::new();
    let digest = Hash([9; 32]);
    for quarantine in [false, true] {
        let panic = Restarted {
            digest,
            command: "publish".into(),
            reason: "index out of bounds".into(),
            quarantine,
        };
        bench
            .ask(CatalogCommand::Restarted(panic))
            .expect("taken note of");
        assert_eq!(bench.catalog.is_quarantined(digest), quarantine);
    }
    bench.fail_over();
    assert!(bench.catalog.is_quarantined(digest));
    assert_eq!(
        bench.kinds(),
        ["partition.restarted", "partition.command_quarantined"]
    );
}
