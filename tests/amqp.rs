//! probe
mod support;
use lapin::{options::*, types::*, *};
#[test]
fn probe() {
    let Some(broker) = support::broker::shared() else { return };
    let uri = broker.fresh_vhost();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let c = Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
        for (name, args) in [
            ("plain", vec![]),
            ("ttl", vec![("x-message-ttl", AMQPValue::LongInt(5000))]),
            (
                "dlx",
                vec![
                    ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
                    ("x-queue-type", AMQPValue::LongString("classic".into())),
                ],
            ),
            ("q", vec![("x-queue-type", AMQPValue::LongString("quorum".into()))]),
        ] {
            let ch = c.create_channel().await.unwrap();
            let mut t = FieldTable::default();
            for (k, v) in args {
                t.insert(k.into(), v);
            }
            ch.queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, t)
                .await
                .unwrap();
            let mut t = FieldTable::default();
            t.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            t.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
            t.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
            t.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString("foo".into()));
            t.insert("x-dead-letter-strategy".into(), AMQPValue::LongString("at-least-once".into()));
            t.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
            t.insert("x-consumer-timeout".into(), AMQPValue::LongInt(604800000));
            let r = ch
                .queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, t.clone())
                .await;
            println!("{name}: {r:?}");
            let ch = c.create_channel().await.unwrap();
            let mut t = FieldTable::default();
            t.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let r = ch
                .queue_declare(name.into(), QueueDeclareOptions { durable: true, ..Default::default() }, t.clone())
                .await;
            println!("{name} typeonly: {r:?}");
        }
    });
}
