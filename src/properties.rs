//! Properties of a message beside its headers, for kinds that ask for them.
//!
//! RabbitMQ's messages have such properties, as their producers set them; tasks of other transports have none.

use serde::{Deserialize, Serialize};

/// Properties of a message that its producer set. Each text has at most 255 bytes, as the wire has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Properties {
    /// MIME type of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How the body is packed (`gzip`), or its character set, as some libraries write there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// What an answer is told apart by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where an answer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The producer's name for this sort of message; `type` in frames.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// 0 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// The producer's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    /// When it was made, as its producer says: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// It may have been delivered before. Told for queues of Celery's messages alone, whose code may read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redelivered: Option<bool>,
}

impl Properties {
    /// None of them is set.
    pub const NONE: &'static Self = &Self {
        content_type: None,
        content_encoding: None,
        correlation_id: None,
        reply_to: None,
        kind: None,
        priority: None,
        app_id: None,
        timestamp: None,
        redelivered: None,
    };
}
