//! Asking the other nodes of the virtual host at the start of a session, as Celery's workers do: each tells the others which
//! tasks it knows as revoked, and what its clock shows.
//!
//! What others revoked counts only with `control: work`: to drop a task is to change something.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

use super::{asking, entities, mailbox, methods, outlet::transient, request::HELLO_LIMIT, revoked, state::State};
use crate::{
    control::types::Command,
    transport::amqp::{answer, open_channel, short},
};

/// How long the others are waited for, all together.
const PATIENCE: Duration = Duration::from_secs(1);

/// What this node knows, for another one.
pub(super) fn known(state: &State) -> Value {
    let mut revoked = state.revoked.borrow_mut();
    revoked.purge(state.now());
    json!({ "revoked": revoked.told(state.now()).collect::<Vec<_>>(), "clock": state.forward() })
}

/// Another node told what it knows.
pub(super) async fn heard(state: &State, ids: Vec<String>) {
    if !state.settings.works {
        return;
    }
    let ids: Vec<String> = {
        let mut revoked = state.revoked.borrow_mut();
        let new: Vec<String> = ids.into_iter().filter(|id| !revoked.has(id)).collect();
        revoked.add(state.now(), new.iter().cloned());
        new
    };
    if !ids.is_empty() {
        let _ = asking::command(state, Command::CeleryRevoke { ids, terminate: false }).await;
    }
}

/// Asks all other nodes, and learns what they know. A broker that refuses this is told nothing else about it: the node is well
/// without.
pub(super) async fn mingle(state: &State, connection: &Connection) {
    let asked = async {
        let (channel, mut replies) = ask(state, connection).await?;
        let mut told = Vec::new();
        let collect = async {
            while let Some(Ok(reply)) = replies.next().await {
                answer(reply.acker.ack(BasicAckOptions::default())).await?;
                told.extend(read(state, &reply).into_iter().flatten());
                if told.len() > revoked::MOST {
                    break;
                }
            }
            Ok::<_, lapin::Error>(())
        };
        // Whoever answers later is not waited for.
        let _ = tokio::time::timeout(PATIENCE, collect).await;
        // Its queue goes with the channel's consumer.
        let _ = answer(channel.close(200, "done".into())).await;
        Ok::<_, lapin::Error>(told)
    };
    match asked.await {
        Ok(told) => heard(state, told).await,
        Err(error) => tracing::debug!(target: "asynctask::celery", "other nodes cannot be asked: {error}"),
    }
}

async fn ask(state: &State, connection: &Connection) -> lapin::Result<(Channel, Consumer)> {
    let channel = open_channel(connection).await?;
    entities::REPLIES.declare(&channel).await?;
    let oid = uuid::Uuid::now_v7().to_string();
    let (name, arguments) = entities::reply_queue(&oid);
    answer(channel.queue_declare(short(&name), entities::OF_CONNECTION, arguments)).await?;
    let exchange = short(entities::REPLIES.name);
    answer(channel.queue_bind(short(&name), exchange, short(&oid), QueueBindOptions::default(), FieldTable::default()))
        .await?;
    answer(channel.basic_qos(1, BasicQosOptions::default())).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let replies = answer(channel.basic_consume(short(&name), "".into(), options, none)).await?;
    let mut known = known(state);
    let request = json!({
        "method": "hello",
        "arguments": { "from_node": state.settings.name, "revoked": known["revoked"].take() },
        "destination": null,
        "pattern": null,
        "matcher": null,
        "ticket": uuid::Uuid::now_v7().to_string(),
        "reply_to": { "exchange": entities::REPLIES.name, "routing_key": oid },
    });
    let clock = i64::try_from(state.forward()).unwrap_or(i64::MAX);
    let headers = entities::table(&[("clock", AMQPValue::LongLongInt(clock)), ("expires", AMQPValue::LongInt(0))]);
    let (properties, body) = (transient().with_headers(headers), begin_with_method(&request));
    let options = BasicPublishOptions::default();
    let exchange = short(entities::CONTROL.name);
    answer(channel.basic_publish(exchange, "".into(), options, body.as_bytes(), properties)).await?;
    Ok((channel, replies))
}

/// The method stands first, as Celery's clients write it: by that a node knows that a long message is a `hello`.
fn begin_with_method(request: &Value) -> String {
    let text = request.to_string();
    let mut rest: Map<String, Value> = request.as_object().cloned().unwrap_or_default();
    match rest.remove("method") {
        Some(method) if !rest.is_empty() => {
            let rest = Value::Object(rest).to_string();
            format!("{{\"method\":{method},{}", &rest[1..])
        }
        _ => text,
    }
}

/// The ids of one reply; the clock is taken over. What cannot be read says nothing.
fn read(state: &State, reply: &Delivery) -> Option<Vec<String>> {
    state.adjust(mailbox::clock(&reply.properties));
    if reply.data.len() > HELLO_LIMIT {
        return None;
    }
    let reply: Map<String, Value> = serde_json::from_slice(&reply.data).ok()?;
    let (name, known) = reply.into_iter().next()?;
    if name == state.settings.name {
        return None;
    }
    state.adjust(known["clock"].as_u64().unwrap_or_default());
    Some(methods::ids(&known["revoked"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_begins_with_its_method() {
        let text = begin_with_method(&json!({"arguments": {"a": 1}, "method": "hello"}));
        assert_eq!(text, r#"{"method":"hello","arguments":{"a":1}}"#);
        assert_eq!(begin_with_method(&json!({"method": "x"})), r#"{"method":"x"}"#);
    }
}
