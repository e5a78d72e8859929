//! Queues whose messages are Celery's: declared as its producers do, and every message left as it came.

use std::time::Duration;

use asynctask::{
    celery::{CeleryQueue, DeclareAs, Protocol},
    clock::{Clock, Timestamp},
    task::{Delivery, Failure, NewTask, QueueIndex, Reason, Settlement},
    transport::{Error, Event, QueueSetup, Request, Visit},
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::json;

use super::At;
use crate::{
    contract::party::{Party, done, setup, task},
    support::{broker, foreign::Foreign},
};

const SHORT: Duration = Duration::from_millis(100);
const ID: &str = "f2c1f0de-3f53-4a28-a36a-0f54a2b8a1d5";
const BODY: &[u8] = br#"[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
/// As celery 5.7 writes it in its first protocol.
const FIRST: &[u8] = br#"{"task": "shop.add", "id": "3d04dfea-0e55-43ea-bc42-1e82d391795e", "args": [2, 3], "kwargs": {},
    "group": null, "group_index": null, "retries": 0, "eta": null, "expires": "2029-11-30T17:50:32.850043+00:00", "utc": true,
    "callbacks": null, "errbacks": null, "timelimit": [60, 50], "taskset": null, "chord": null}"#;

fn celery(queue: &str) -> CeleryQueue {
    CeleryQueue::of(queue)
}

/// A queue of Celery's that knows the delays of this test.
fn celery_setup(queue: CeleryQueue, name: &str) -> QueueSetup {
    QueueSetup { protocol: Protocol::Celery(Box::new(queue)), ..setup(name, &[SHORT]) }
}

fn attached(at: &At, credit: u32) -> Party<'_, At> {
    Party::attached(at, &[celery_setup(celery("shop"), "shop")], credit)
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// The headers of protocol 2, as celery 5.7 and py-amqp write them, with some of another value.
fn headers(others: &[(&'static str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    let none = || AMQPValue::Void;
    for (name, value) in [
        ("lang", text("py")),
        ("task", text("shop.add")),
        ("id", text(ID)),
        ("shadow", none()),
        ("eta", none()),
        ("expires", none()),
        ("group", none()),
        ("group_index", none()),
        ("retries", AMQPValue::LongInt(0)),
        ("timelimit", AMQPValue::FieldArray(FieldArray::from(vec![none(), none()]))),
        ("root_id", text(ID)),
        ("parent_id", none()),
        ("argsrepr", text("(2, 3)")),
        ("kwargsrepr", text("{}")),
        ("origin", text("gen14755@vm")),
        ("ignore_result", AMQPValue::Boolean(false)),
        ("replaced_task_nesting", AMQPValue::LongInt(0)),
        ("stamped_headers", none()),
        ("stamps", AMQPValue::FieldTable(FieldTable::default())),
    ]
    .iter()
    .chain(others)
    {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn properties(headers: FieldTable) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(2)
        .with_priority(5)
        .with_correlation_id(ID.into())
        .with_reply_to("answers".into())
        .with_headers(headers)
}

fn message(others: &[(&'static str, AMQPValue)]) -> BasicProperties {
    properties(headers(others))
}

fn failure(reason: Reason) -> Box<Failure> {
    Box::new(Failure::new(reason, "no", Clock::wall()))
}

fn retry() -> Settlement {
    Settlement::Retry { after: SHORT, failure: failure(Reason::Error) }
}

/// Python's `isoformat`.
fn iso(moment: Timestamp) -> AMQPValue {
    let moment = jiff::Timestamp::from_millisecond(moment.0).unwrap();
    text(&moment.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string())
}

/// What code is told: that it may have been delivered before.
fn came_before(delivery: &Delivery) -> bool {
    delivery.task.properties.as_ref().unwrap().redelivered.unwrap()
}

/// What a master is told about a queue, but for how many.
fn warnings(party: &mut Party<'_, At>) -> Vec<String> {
    let mut warnings = Vec::new();
    // All that was said about a queue was said before its first delivery.
    party.wait("Delivered", |event| match event {
        Event::Delivered(_) => Some(()),
        Event::Warning(text) => {
            warnings.push(text.clone());
            None
        }
        _ => None,
    });
    warnings
}

#[test]
fn whoever_comes_first_both_declare_the_same() {
    let priority = [("x-max-priority", AMQPValue::LongInt(10))];
    let quorum = [("x-queue-type", text("quorum"))];
    for (of, arguments) in [
        (celery("shop"), &[][..]),
        (CeleryQueue { exchange: "other".to_owned(), ..celery("shop") }, &[]),
        (CeleryQueue { declare_as: DeclareAs::Quorum, ..celery("shop") }, &quorum),
        (CeleryQueue { max_priority: Some(10), ..celery("shop") }, &priority),
    ] {
        for producer_first in [false, true] {
            let Some(at) = At::fresh() else { return };
            let foreign = Foreign::connect(&at.0);
            let declare = || foreign.declare_as_celery("shop", &of.exchange, arguments).expect("declared");
            if producer_first {
                declare();
            }
            let setups = [celery_setup(of.clone(), "shop")];
            let mut party = Party::attached(&at, &setups, 1);
            // Bound already.
            assert!(foreign.is_routed(&of.exchange, "shop", message(&[]), BODY), "{of:?}");
            declare();
            assert_eq!(warnings(&mut party), [""; 0], "{of:?}");
            drop(party);
            // As another master finds it.
            let mut party = Party::attached(&at, &setups, 1);
            assert_eq!(warnings(&mut party), [""; 0], "{of:?}");
            declare();
            assert!(!foreign.exists("shop_failed.x"));
        }
    }
}

#[test]
fn a_queue_with_other_arguments_is_used_as_it_is() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    let arguments = [("x-max-priority", AMQPValue::LongInt(10)), ("x-max-length", AMQPValue::LongInt(100_000))];
    foreign.declare_as_celery("shop", "shop", &arguments).unwrap();
    let mut party = attached(&at, 1);
    foreign.publish("shop", message(&[]), BODY);
    let told = warnings(&mut party);
    assert!(
        told.len() == 1 && told[0].contains("x-max-length"),
        "what can lose tasks is told, its type is not: {told:?}"
    );
    foreign.declare_as_celery("shop", "shop", &arguments).unwrap();
}

#[test]
fn an_exchange_of_another_type_is_told_once_and_left_alone() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare_exchange("shop", ExchangeKind::Topic);
    let mut party = attached(&at, 1);
    assert!(!foreign.is_routed("shop", "shop", message(&[]), BODY), "it is not bound");
    foreign.publish("shop", message(&[]), BODY);
    let told = warnings(&mut party);
    assert!(told.len() == 1 && told[0].contains("not bound to exchange \"shop\""), "{told:?}");
    // Changed while it is worked.
    let of = CeleryQueue { exchange: "direct".to_owned(), ..celery("shop") };
    party.ask(Request::AddQueue { queue: QueueIndex(0), setup: celery_setup(of, "shop") });
    party.wait("QueueAdded", |event| matches!(event, Event::QueueAdded { .. }).then_some(()));
    assert!(foreign.is_routed("direct", "shop", message(&[]), BODY));
}

#[test]
fn nothing_is_made_where_that_is_forbidden() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::client(&at);
    let queues = vec![QueueSetup { delays: Vec::new(), ..celery_setup(celery("shop"), "shop") }];
    party.ask(Request::Attach { queues: queues.clone(), passive: true });
    party.wait("Refused", |event| matches!(event, Event::Refused(Error::NoSuchQueue { .. })).then_some(()));
    let foreign = Foreign::connect(&at.0);
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for queue in ["shop", "shop_failed"] {
        foreign.declare_as(queue, durable, &[]);
    }
    let mut party = Party::client(&at);
    party.ask(Request::Attach { queues, passive: true });
    party.credit(0, 1);
    party.wait("Attached", |event| matches!(event, Event::Attached { .. }).then_some(()));
    foreign.publish("shop", message(&[]), BODY);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, done());
}

#[test]
fn a_task_is_read_from_headers_or_from_its_body() {
    let Some(at) = At::fresh() else { return };
    let mut party = attached(&at, 1);
    let foreign = Foreign::connect(&at.0);
    let limits = AMQPValue::FieldArray(vec![AMQPValue::LongInt(60), AMQPValue::LongInt(50)].into());
    let expires = Timestamp(1_893_549_845_000);
    foreign.publish("shop", message(&[("timelimit", limits), ("expires", iso(expires))]), BODY);
    let second = party.delivery();
    assert_eq!((second.task.id.as_str(), second.task.name.as_deref()), (ID, Some("shop.add")));
    assert_eq!((second.task.time_limit, second.task.expires_at), (Some(Duration::from_mins(1)), Some(expires)));
    let said = serde_json::to_value(second.task.properties.as_deref()).unwrap();
    let expected = json!({"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": ID,
        "reply_to": "answers", "priority": 5, "redelivered": false});
    assert_eq!(said, expected);
    assert!(second.identity.is_some());
    party.settle_now(second.handle, done());
    foreign.publish("shop", properties(FieldTable::default()), FIRST);
    let first = party.delivery();
    assert_eq!(first.task.id, "3d04dfea-0e55-43ea-bc42-1e82d391795e");
    assert_eq!((first.task.name.as_deref(), first.task.time_limit), (Some("shop.add"), Some(Duration::from_mins(1))));
    assert_eq!(first.task.expires_at, Some(Timestamp(1_890_755_432_851)));
    party.settle_now(first.handle, done());
    // Whatever else it is, it comes, with what is wrong with it.
    for (properties, body, is_unreadable) in [
        (BasicProperties::default(), &b"\xff"[..], true),
        (message(&[("task", AMQPValue::LongInt(7))]), BODY, true),
        (message(&[("eta", text("soon"))]), BODY, true),
        (message(&[("id", AMQPValue::Void), ("timelimit", text("x")), ("retries", text("x"))]), BODY, false),
        (message(&[]).with_content_type("application/x-python-serialize".into()), b"\x80\x04]", false),
    ] {
        foreign.publish("shop", properties, body);
        let delivery = party.delivery();
        assert_eq!(delivery.task.unreadable.is_some(), is_unreadable, "{delivery:?}");
        party.settle_now(delivery.handle, done());
    }
}

#[test]
fn an_eta_is_waited_for_on_the_ladder_and_once() {
    let Some(at) = At::fresh() else { return };
    let party = attached(&at, 1);
    let foreign = Foreign::connect(&at.0);
    let due = Clock::wall().plus(Duration::from_millis(2_777));
    foreign.publish("shop", message(&[("eta", iso(due))]), BODY);
    party.until_depth("shop", |depth| depth.delayed == 1 && depth.ready == 0);
    // The death of the master costs nothing.
    party.kill();
    let mut party = attached(&at, 1);
    let delivery = party.delivery();
    assert!(!came_before(&delivery), "it was its producer who put it off");
    let late = Clock::wall().0 - due.0;
    assert!((0..1_000).contains(&late), "{late} ms late");
    assert_eq!((delivery.task.attempts, delivery.task.due_at), (0, Some(due)));
    assert!(delivery.task.headers["eta"].is_string(), "it stays as it is");
    // Its moment has passed: it is not waited for again.
    party.settle_now(delivery.handle, retry());
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), again.task.attempts, came_before(&again)), (ID, 1, true));
    party.settle_now(again.handle, Settlement::Dead(failure(Reason::Failed)));
    party.until_depth("shop", |depth| depth.failed == 1);
    assert_eq!(party.walk("shop", |_| Visit::Retry { body: None }).retried, 1);
    let again = party.delivery();
    party.settle_now(again.handle, done());
    // Without a zone it is of UTC.
    let due = Clock::wall().plus(Duration::from_millis(700));
    let moment = jiff::Timestamp::from_millisecond(due.0).unwrap();
    let naive = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").to_string();
    foreign.publish("shop", message(&[("eta", text(&naive))]), BODY);
    let delivery = party.delivery();
    let late = Clock::wall().0 - due.0;
    assert!((0..1_000).contains(&late), "{late} ms late");
    party.settle_now(delivery.handle, done());
    assert!(party.survey().0);
}

/// Headers but for those of ours and the broker's.
fn theirs(properties: &BasicProperties) -> FieldTable {
    let mut all = FieldTable::default();
    for (name, value) in properties.headers().clone().unwrap_or_default().inner() {
        if !name.as_str().starts_with("asynctask-") && name.as_str() != "x-delivery-count" {
            all.insert(name.clone(), value.clone());
        }
    }
    all
}

#[test]
fn a_message_is_byte_for_byte_what_it_was_in_retries_and_dead_letters() {
    let Some(at) = At::fresh() else { return };
    let mut party = attached(&at, 1);
    let foreign = Foreign::connect(&at.0);
    let odd = [
        ("x-float", AMQPValue::Double(1.5)),
        ("x-short", AMQPValue::ShortInt(-3)),
        ("x-moment", AMQPValue::Timestamp(17)),
        ("x-nested", AMQPValue::FieldTable(headers(&[]))),
        ("stamps", AMQPValue::FieldTable(headers(&[]))),
    ];
    for (sent, body, id) in [
        (message(&odd), BODY, ID),
        (message(&[]).with_priority(0).with_message_id("theirs".into()), BODY, ID),
        (properties(FieldTable::default()), FIRST, "3d04dfea-0e55-43ea-bc42-1e82d391795e"),
        (message(&[("id", AMQPValue::Void)]), BODY, ID),
    ] {
        let is_same = |what: &str, now: &lapin::message::Delivery| {
            let is = &now.properties;
            assert_eq!(theirs(is), sent.headers().clone().unwrap(), "{what}");
            assert_eq!(now.data, body, "{what}");
            for (is, was) in [
                (is.content_type(), sent.content_type()),
                (is.content_encoding(), sent.content_encoding()),
                (is.correlation_id(), sent.correlation_id()),
                (is.reply_to(), sent.reply_to()),
                (is.message_id(), sent.message_id()),
            ] {
                assert_eq!(is, was, "{what}");
            }
            assert_eq!((is.priority(), is.delivery_mode()), (sent.priority(), sent.delivery_mode()), "{what}");
        };
        foreign.publish("shop", sent.clone(), body);
        let delivery = party.delivery();
        assert_eq!(delivery.task.id, id);
        party.settle_now(delivery.handle, retry());
        let delivery = party.delivery();
        assert_eq!((delivery.task.id.as_str(), delivery.task.attempts), (id, 1));
        party.settle_now(delivery.handle, Settlement::Dead(failure(Reason::Crash)));
        party.until_depth("shop", |depth| depth.failed == 1);
        let letter = party.dead_letters("shop").remove(0);
        assert_eq!((letter.id.as_str(), letter.reason.as_str(), letter.body.as_slice()), (id, "crash", body));
        let dead = foreign.take("shop_failed").unwrap();
        is_same("a dead letter", &dead);
        foreign.publish("shop_failed", dead.properties, &dead.data);
        // Where a worker of Celery takes it.
        party.credit(0, 0);
        assert_eq!(party.walk("shop", |_| Visit::Retry { body: None }).retried, 1);
        party.until_depth("shop", |depth| depth.ready == 1);
        is_same("back from the dead", &foreign.take("shop").unwrap());
        party.credit(0, 1);
    }
}

#[test]
fn one_that_expired_does_not_expire_again_when_it_is_put_back_to_work() {
    let Some(at) = At::fresh() else { return };
    let mut party = attached(&at, 1);
    let foreign = Foreign::connect(&at.0);
    let past = Timestamp(Clock::wall().0 - 1_000);
    foreign.publish("shop", message(&[("expires", iso(past))]), BODY);
    let delivery = party.delivery();
    assert_eq!(delivery.task.expires_at, Some(past));
    party.settle_now(delivery.handle, Settlement::Dead(failure(Reason::Expired)));
    party.until_depth("shop", |depth| depth.failed == 1);
    assert_eq!(party.walk("shop", |_| Visit::Retry { body: None }).retried, 1);
    let again = party.delivery();
    assert!(again.task.expires_at.is_none_or(|at| at > Clock::wall().plus(Duration::from_hours(24))));
    assert_eq!(again.task.headers["expires"], delivery.task.headers["expires"]);
    party.settle_now(again.handle, done());
}

#[test]
fn a_task_that_sends_itself_again_is_another_one_and_one_that_comes_again_is_the_same() {
    let Some(at) = At::fresh() else { return };
    let mut party = attached(&at, 1);
    let foreign = Foreign::connect(&at.0);
    let mut identity = |sent: BasicProperties| {
        foreign.publish("shop", sent, BODY);
        let delivery = party.delivery();
        assert_eq!(
            (delivery.task.id.as_str(), delivery.task.properties.as_ref().unwrap().redelivered),
            (ID, Some(false))
        );
        party.settle_now(delivery.handle, done());
        delivery.identity.expect("it has an id")
    };
    let original = identity(message(&[]));
    let past = |seconds: i64| iso(Timestamp(Clock::wall().0 - seconds * 1_000));
    let others = [
        identity(message(&[("retries", AMQPValue::LongInt(1)), ("eta", past(3)), ("parent_id", text(ID))])),
        identity(message(&[("retries", AMQPValue::LongInt(1)), ("eta", past(2)), ("parent_id", text(ID))])),
        identity(message(&[("task", text("shop.other")), ("replaced_task_nesting", AMQPValue::LongInt(1))])),
        identity(message(&[("replaced_task_nesting", AMQPValue::LongInt(1))])),
    ];
    let different: std::collections::HashSet<u64> = others.into_iter().chain([original]).collect();
    assert_eq!(different.len(), 5);
    assert_eq!(identity(message(&[])), original);
    foreign.publish("shop", message(&[]), BODY);
    let mut known: Vec<Delivery> = vec![party.delivery()];
    // A classic queue does not count deliveries: the message does, and stays what it is.
    for deliveries in 1..=2 {
        party.kill();
        party = attached(&at, 1);
        known.push(party.delivery());
        let delivery = &known[deliveries];
        assert_eq!((delivery.task.deliveries as usize, delivery.identity), (deliveries, Some(original)));
        assert!(delivery.redelivered && came_before(delivery));
    }
    party.settle_now(known[2].handle, Settlement::Dead(failure(Reason::Deliveries)));
    party.until_depth("shop", |depth| depth.failed == 1);
    let dead = foreign.take("shop_failed").unwrap();
    assert_eq!((theirs(&dead.properties), dead.properties.message_id()), (headers(&[]), &None));
}

#[test]
fn a_quorum_queue_counts_deliveries_itself() {
    let Some(at) = At::fresh() else { return };
    let setups = [celery_setup(CeleryQueue { declare_as: DeclareAs::Quorum, ..celery("shop") }, "shop")];
    let mut party = Party::attached(&at, &setups, 1);
    let foreign = Foreign::connect(&at.0);
    foreign.publish("shop", message(&[]), BODY);
    let first = party.delivery();
    let mut delivery = first.clone();
    for deliveries in 1..=3 {
        party.kill();
        party = Party::attached(&at, &setups, 1);
        delivery = party.delivery();
        assert_eq!((delivery.task.deliveries, delivery.identity), (deliveries, first.identity));
        assert!(came_before(&delivery));
    }
    // An orderly return is not counted, so that these never come to the limit that the broker has by default.
    for _ in 0..3 {
        party.settle_now(delivery.handle, Settlement::Release);
        delivery = party.delivery();
        assert_eq!((delivery.task.deliveries, delivery.identity), (3, first.identity));
    }
    party.settle_now(delivery.handle, Settlement::Dead(failure(Reason::Failed)));
    party.until_depth("shop", |depth| depth.failed == 1);
    let dead = foreign.take("shop_failed").unwrap();
    assert_eq!((theirs(&dead.properties), dead.properties.message_id()), (headers(&[]), &None));
}

#[test]
fn what_is_submitted_is_a_message_of_the_second_protocol() {
    let Some(at) = At::fresh() else { return };
    let client = Party::client(&at);
    let protocol = Protocol::Celery(Box::new(CeleryQueue { max_priority: Some(9), ..celery("shop") }));
    client.ask(Request::Protocols { queues: vec![("shop".to_owned(), protocol)] });
    let payload = br#"{"task": "shop.add", "args": [1, "a"], "kwargs": {"b": 2}}"#;
    let expires_at = Some(Timestamp(1_893_549_845_000));
    let new = NewTask { body: payload.to_vec(), expires_at, priority: Some(4), ..task("shop", ID) };
    client.submit(vec![new.clone()]);
    let foreign = Foreign::connect(&at.0);
    let message = foreign.take("shop").unwrap();
    let names = |table: &FieldTable| table.inner().keys().cloned().collect::<Vec<_>>();
    let is = &message.properties;
    let table = is.headers().clone().unwrap();
    assert_eq!(names(&table), names(&headers(&[])));
    let written = |name: &str| table.inner().get(name).cloned().unwrap();
    assert_eq!((written("task"), written("id"), written("root_id")), (text("shop.add"), text(ID), text(ID)));
    assert_eq!((written("argsrepr"), written("expires")), (text("(1, 'a')"), text("2030-01-02T02:04:05.000000+00:00")));
    assert!(matches!(written("origin"), AMQPValue::LongString(origin) if origin.to_string().starts_with("asynctask@")));
    let said = [is.content_type(), is.content_encoding(), is.correlation_id()];
    let said = said.map(|said| said.clone().unwrap().to_string());
    assert_eq!(said, ["application/json", "utf-8", ID]);
    assert_eq!((is.priority(), is.delivery_mode(), is.message_id()), (&Some(4), &Some(2), &None));
    assert_eq!(message.data, br#"[[1, "a"],{"b": 2},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]"#);
    // Declared as its producers do.
    foreign.declare_as_celery("shop", "shop", &[("x-max-priority", AMQPValue::LongInt(9))]).unwrap();
    let refused = client.call(|reply| Request::Submit { tasks: vec![task("shop", "a")], reply }).unwrap_err();
    assert!(refused.to_string().contains("{\"task\": NAME"), "{refused}");
    // A delay is ours, and what was submitted is worked as any other.
    client.submit(vec![NewTask { delay: Duration::from_millis(300), ..new }]);
    client.until_depth("shop", |depth| depth.delayed == 1);
    let mut party = attached(&at, 1);
    let delivery = party.delivery();
    assert_eq!((delivery.task.id.as_str(), delivery.task.name.as_deref()), (ID, Some("shop.add")));
    assert_eq!((delivery.task.expires_at, came_before(&delivery)), (expires_at, false));
    party.settle_now(delivery.handle, Settlement::Snooze { after: SHORT, memo: None });
    let delivery = party.delivery();
    assert!(came_before(&delivery), "it was put back");
    // And so is what a task of another queue submits.
    let follow_up = NewTask { body: payload.to_vec(), ..task("shop", "next") };
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![follow_up] });
    let next = party.delivery();
    assert_eq!((next.task.id.as_str(), next.task.name.as_deref()), ("next", Some("shop.add")));
    party.settle(next.handle, Settlement::Done { submit: vec![task("shop", "bad")] });
    party.wait("Unstorable", |event| matches!(event, Event::Unstorable { .. }).then_some(()));
    party.settle_now(next.handle, done());
}

#[test]
fn a_schedule_sends_its_task_under_the_lease() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("own", &[])], 1);
    party.ask(Request::Lease { application: "demo".to_owned() });
    party.lease_held();
    let protocol = Protocol::Celery(Box::new(celery("elsewhere")));
    let body = br#"{"task":"shop.clean","args":[],"kwargs":{}}"#.to_vec();
    let new = NewTask { body, protocol, ..task("elsewhere", ID) };
    assert!(party.fire("celery_shop.clean", Timestamp(1_893_549_845_000), Some(new)).unwrap());
    let foreign = Foreign::connect(&at.0);
    let message = foreign.take("elsewhere").unwrap();
    assert!(message.data.starts_with(b"[[],{},"));
    foreign.declare_as_celery("elsewhere", "elsewhere", &[]).unwrap();
}

#[test]
fn an_answer_is_sent_and_costs_nothing_where_nobody_waits() {
    let Some(broker) = broker::own() else { return };
    broker.limit_message_size(50_000);
    let at = At(broker.fresh_vhost());
    let mut party = attached(&at, 2);
    let foreign = Foreign::connect(&at.0);
    let answers = QueueDeclareOptions::default();
    foreign.declare_as("answers", QueueDeclareOptions { auto_delete: false, durable: true, ..answers }, &[]);
    let reply = |queue: &str, body: &[u8]| Request::Reply {
        queue: queue.to_owned(),
        correlation_id: ID.to_owned(),
        body: body.to_vec(),
    };
    let until_answered = || {
        let clock = Clock::start();
        loop {
            if let Some(answer) = foreign.take("answers") {
                return answer;
            }
            assert!(clock.now().at.since_start() < Duration::from_secs(20), "no answer comes");
        }
    };
    party.ask(reply("gone", b"1"));
    party.ask(reply(&"x".repeat(300), b"1"));
    party.ask(reply("answers", b"2"));
    let answer = until_answered();
    let is = &answer.properties;
    assert_eq!((answer.data.as_slice(), is.delivery_mode()), (&b"2"[..], &Some(1)));
    let said = [is.content_type(), is.content_encoding(), is.correlation_id()];
    assert_eq!(said.map(|said| said.clone().unwrap().to_string()), ["application/json", "utf-8", ID]);
    // One that the broker refuses closes its channel, and nothing else.
    party.ask(reply("answers", &vec![b'3'; 100_000]));
    foreign.publish("shop", message(&[]), BODY);
    let delivery = party.delivery();
    party.settle_now(delivery.handle, done());
    party.hears_nothing_for(Duration::from_millis(1_500));
    party.ask(reply("answers", b"4"));
    assert_eq!(until_answered().data, b"4");
    // An orderly end sends what it was given.
    for _ in 0..500 {
        party.ask(reply("answers", b"5"));
    }
    let began = Clock::start();
    party.close();
    let took = began.now().at.since_start();
    assert!(took < Duration::from_secs(3), "an end waits for nothing that does not end: {took:?}");
    let mut count = 0;
    while foreign.take("answers").is_some() {
        count += 1;
    }
    assert_eq!(count, 500);
}
