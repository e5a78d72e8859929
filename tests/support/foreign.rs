//! A producer or administrator that knows nothing of this project: raw AMQP.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

/// A connection with one channel.
pub struct Foreign {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
    _connection: Connection,
}

impl Foreign {
    pub fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(address, ConnectionProperties::default()).await.expect("a broker");
            let channel = connection.create_channel().await.expect("a channel");
            channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.expect("confirms");
            (connection, channel)
        });
        Self { runtime, channel, _connection: connection }
    }

    /// Publishes and waits for the confirm.
    pub fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let confirmed = self.runtime.block_on(async {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            self.channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await
        });
        assert!(matches!(confirmed, Ok(lapin::Confirmation::Ack(None))), "{confirmed:?}");
    }

    /// Publishes to an exchange, and waits for the confirm.
    pub fn publish_to(&self, exchange: &str, properties: BasicProperties, body: &[u8]) {
        let confirmed = self.runtime.block_on(async {
            let options = BasicPublishOptions::default();
            self.channel.basic_publish(exchange.into(), "".into(), options, body, properties).await?.await
        });
        assert!(matches!(confirmed, Ok(lapin::Confirmation::Ack(None))), "{confirmed:?}");
    }

    /// Makes a quorum queue that takes nothing: it is full, and refuses what is more.
    pub fn declare_full(&self, queue: &str) {
        let refusing = [
            ("x-max-length", AMQPValue::LongInt(1)),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
            ("x-queue-type", AMQPValue::LongString("quorum".into())),
        ];
        self.declare(queue, &refusing);
        self.fill(queue);
    }

    /// Publishes until a queue takes no more, as one with `x-overflow: reject-publish` does.
    pub fn fill(&self, queue: &str) {
        for _ in 0..1_000 {
            let confirmed = self.runtime.block_on(async {
                let options = BasicPublishOptions::default();
                self.channel
                    .basic_publish("".into(), queue.into(), options, b"0", BasicProperties::default())
                    .await?
                    .await
            });
            match confirmed {
                Ok(lapin::Confirmation::Nack(None)) => return,
                Ok(lapin::Confirmation::Ack(None)) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("queue {queue} is never full");
    }

    /// Messages that lie ready in a queue.
    pub fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        self.runtime.block_on(declared).expect("the queue").message_count()
    }

    /// Takes a message off a queue, if there is one.
    pub fn take(&self, queue: &str) -> Option<Delivery> {
        self.runtime.block_on(async {
            let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("the queue");
            let delivery = got?.delivery;
            delivery.acker.ack(BasicAckOptions::default()).await.expect("acknowledged");
            Some(delivery)
        })
    }

    /// Takes a message and holds it, if there is one: it goes back with this connection.
    pub fn hold(&self, queue: &str) -> Option<Delivery> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions::default());
        Some(self.runtime.block_on(got).expect("the queue")?.delivery)
    }

    /// Removes a message that is held.
    pub fn done(&self, held: &Delivery) {
        self.runtime.block_on(held.acker.ack(BasicAckOptions::default())).expect("acknowledged");
    }

    /// Takes a message off a queue and refuses it.
    pub fn reject(&self, queue: &str) {
        self.runtime.block_on(async {
            let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("the queue");
            let options = lapin::options::BasicRejectOptions { requeue: false };
            got.expect("a message").acker.reject(options).await.expect("rejected");
        });
    }

    /// Consumes `count` messages as fast as the library can, with one acknowledgement for what is there at a time.
    pub fn consume(&self, queue: &str, prefetch: u16, count: usize) {
        use futures_util::{FutureExt as _, StreamExt as _};
        use lapin::options::{BasicConsumeOptions, BasicQosOptions};
        self.runtime.block_on(async {
            self.channel.basic_qos(prefetch, BasicQosOptions::default()).await.expect("a prefetch");
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = self.channel.basic_consume(queue.into(), "raw".into(), options, arguments);
            let mut consumer = consumer.await.expect("a consumer");
            let mut seen = 0;
            while seen < count {
                let mut last = consumer.next().await.expect("a message").expect("a message");
                seen += 1;
                while let Some(Some(Ok(next))) = consumer.next().now_or_never() {
                    last = next;
                    seen += 1;
                }
                last.acker.ack(BasicAckOptions { multiple: true }).await.expect("acknowledged");
            }
        });
    }

    /// Consumes as the only one who may, and acknowledges nothing.
    pub fn consume_exclusively(&self, queue: &str) {
        let options = lapin::options::BasicConsumeOptions { exclusive: true, ..Default::default() };
        let consumer = self.channel.basic_consume(queue.into(), "exclusive".into(), options, FieldTable::default());
        // The library keeps it as long as the channel; dropped, it would be cancelled.
        std::mem::forget(self.runtime.block_on(consumer).expect("a consumer"));
    }

    /// Ends that.
    pub fn stop_consuming(&self) {
        let cancelled = self.channel.basic_cancel("exclusive".into(), lapin::options::BasicCancelOptions::default());
        self.runtime.block_on(cancelled).expect("cancelled");
    }

    pub fn declare_classic(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(100_000));
        let declared = self.channel.queue_declare(queue.into(), options, arguments);
        self.runtime.block_on(declared).expect("declared");
    }

    /// A durable queue with these arguments.
    pub fn declare(&self, queue: &str, arguments: &[(&'static str, AMQPValue)]) {
        self.declare_as(queue, QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }, arguments);
    }

    /// A queue with these options and arguments.
    pub fn declare_as(&self, queue: &str, options: QueueDeclareOptions, arguments: &[(&'static str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let declared = self.channel.queue_declare(queue.into(), options, table);
        self.runtime.block_on(declared).expect("declared");
    }

    /// What a producer with Celery does each time that it publishes: it declares its exchange, its queue with these arguments, and
    /// the binding. An error closes the channel.
    pub fn declare_as_celery(
        &self,
        queue: &str,
        exchange: &str,
        arguments: &[(&'static str, AMQPValue)],
    ) -> lapin::Result<()> {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        self.runtime.block_on(async {
            let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (kind, none) = (lapin::ExchangeKind::Direct, FieldTable::default());
            self.channel.exchange_declare(exchange.into(), kind, durable, none).await?;
            let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            self.channel.queue_declare(queue.into(), durable, table).await?;
            let (options, none) = (lapin::options::QueueBindOptions::default(), FieldTable::default());
            self.channel.queue_bind(queue.into(), exchange.into(), queue.into(), options, none).await
        })
    }

    /// A durable exchange of this type.
    pub fn declare_exchange(&self, exchange: &str, kind: lapin::ExchangeKind) {
        let durable = lapin::options::ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = self.channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default());
        self.runtime.block_on(declared).expect("declared");
    }

    /// Publishes to an exchange and waits for the confirm; whether a queue took it.
    pub fn is_routed(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) -> bool {
        let confirmed = self.runtime.block_on(async {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await
        });
        match confirmed {
            Ok(lapin::Confirmation::Ack(returned)) => returned.is_none(),
            other => panic!("{other:?}"),
        }
    }

    /// A queue that is this connection's own while it stands.
    pub fn declare_exclusive(&self, queue: &str) {
        let options = QueueDeclareOptions { durable: true, exclusive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        self.runtime.block_on(declared).expect("declared");
    }

    /// Whether there is a queue of this name.
    pub fn exists(&self, queue: &str) -> bool {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        self.runtime.block_on(declared).is_ok()
    }

    /// Removes all that is ready, as the broker does it: nobody hears of it. Gives its number.
    pub fn purge(&self, queue: &str) -> u32 {
        let purged = self.channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default());
        self.runtime.block_on(purged).expect("purged")
    }

    pub fn delete(&self, queue: &str) {
        let deleted = self.channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        self.runtime.block_on(deleted).expect("deleted");
    }
}

/// Publishes with an id of any bytes, which no client library would take, and waits for the confirm.
pub fn publish_with_id(address: &str, queue: &str, id: &[u8]) {
    // A delivery mode and a message id.
    let flags: u16 = 1 << 12 | 1 << 7;
    let id = [&[u8::try_from(id.len()).expect("a short string")], id].concat();
    publish_raw(address, queue, &[&flags.to_be_bytes()[..], &[2], &id].concat(), b"{}");
}

/// Publishes with these headers and one more, lists in lists, deeper than a client library's stack is; and waits for the
/// confirm.
pub fn publish_nested(address: &str, queue: &str, headers: &[(&str, &str)], depth: usize, body: &[u8]) {
    let long = |text: &[u8]| [&u32::try_from(text.len()).expect("a long string").to_be_bytes()[..], text].concat();
    let named = |name: &str, value: &[u8]| [&[name.len() as u8], name.as_bytes(), value].concat();
    // Each list is its kind, its length and what is in it; the innermost has nothing.
    let lists = (1..=depth).rev().flat_map(|inner| {
        let length = u32::try_from((inner - 1) * 5).expect("a long string");
        [&b"A"[..], &length.to_be_bytes()].concat()
    });
    let lists: Vec<u8> = lists.collect();
    let mut table: Vec<u8> =
        headers.iter().flat_map(|(name, value)| named(name, &[b"S", &long(value.as_bytes())[..]].concat())).collect();
    table.extend(named("deep", &lists));
    // A content type, an encoding, headers and a delivery mode.
    let flags: u16 = 1 << 15 | 1 << 14 | 1 << 13 | 1 << 12;
    let (kind, encoding) = (named("application/json", b""), named("utf-8", b""));
    publish_raw(address, queue, &[&flags.to_be_bytes()[..], &kind, &encoding, &long(&table), &[2]].concat(), body);
}

/// Publishes with properties that are bytes already, and waits for the confirm: the frames as the specification of AMQP 0-9-1
/// has them.
fn publish_raw(address: &str, queue: &str, properties: &[u8], body: &[u8]) {
    let rest = address.strip_prefix("amqp://guest:guest@").expect("an address of the tests' broker");
    let (host, vhost) = rest.split_once('/').expect("with a virtual host");
    let mut stream = TcpStream::connect(host).expect("a broker");
    let short = |text: &[u8]| [&[u8::try_from(text.len()).expect("a short string")], text].concat();
    let long = |text: &[u8]| [&u32::try_from(text.len()).expect("a long string").to_be_bytes()[..], text].concat();
    let method = |class: u16, number: u16, arguments: &[u8]| {
        [&class.to_be_bytes()[..], &number.to_be_bytes(), arguments].concat()
    };
    let frame = |kind: u8, channel: u16, payload: &[u8]| {
        [&[kind][..], &channel.to_be_bytes(), &long(payload), &[0xce]].concat()
    };
    let answered = |stream: &mut TcpStream| {
        let mut head = [0; 7];
        stream.read_exact(&mut head).expect("an answer");
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; length + 1];
        stream.read_exact(&mut payload).expect("the whole answer");
        (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]))
    };
    let start = [long(b""), short(b"PLAIN"), long(b"\0guest\0guest"), short(b"en_US")].concat();
    // As many channels as RabbitMQ offers, frames of 128 KiB, no heartbeats.
    let tune = [7, 255, 0, 2, 0, 0, 0, 0];
    let steps: [(&[u8], (u16, u16)); 5] = [
        (b"AMQP\0\0\x09\x01", (10, 10)),
        (&frame(1, 0, &method(10, 11, &start)), (10, 30)),
        (
            &[
                frame(1, 0, &method(10, 31, &tune)),
                frame(1, 0, &method(10, 40, &[short(vhost.as_bytes()), short(b""), vec![0]].concat())),
            ]
            .concat(),
            (10, 41),
        ),
        (&frame(1, 1, &method(20, 10, &short(b""))), (20, 11)),
        (&frame(1, 1, &method(85, 10, &[0])), (85, 11)),
    ];
    for (sent, answer) in steps {
        stream.write_all(sent).expect("the broker listens");
        assert_eq!(answered(&mut stream), answer);
    }
    let publish = method(60, 40, &[vec![0, 0], short(b""), short(queue.as_bytes()), vec![0]].concat());
    let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), properties].concat();
    let message = [frame(1, 1, &publish), frame(2, 1, &header), frame(3, 1, body)].concat();
    stream.write_all(&message).expect("the broker listens");
    assert_eq!(answered(&mut stream), (60, 80));
}
