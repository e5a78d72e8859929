//! A transport for one command, and its errors as those of a command.

use crate::{
    config::Config,
    exit_code::{Code, Error},
    transport::{self, Transport},
};

/// Opens a transport for one command. Its events are dropped: they are for masters.
pub(in crate::cli) fn open(config: &Config) -> Result<Box<dyn Transport>, Error> {
    let (events, _) = tokio::sync::mpsc::unbounded_channel();
    let transport = transport::open(&config.transport, events).map_err(|error| from_transport_error(&error))?;
    transport::tell(&*transport, config.protocols());
    Ok(transport)
}

/// A transport's error as a command's.
pub(in crate::cli) fn from_transport_error(error: &transport::Error) -> Error {
    let code = match error.cause() {
        transport::Error::NoSuchQueue { .. } | transport::Error::QueueRefused { .. } | transport::Error::NotStored { .. } | transport::Error::InUse { .. }
        | transport::Error::Jobs { .. } | transport::Error::NotRevived { .. } => {
            Code::Refused
        }
        transport::Error::BadUri { .. } => Code::Config,
        transport::Error::Refused { .. }
        | transport::Error::Unreachable { .. }
        | transport::Error::Lost { .. }
        | transport::Error::Unconfirmed { .. }
        | transport::Error::File { .. }
        | transport::Error::Closed
        // The cause of others is never one of these.
        | transport::Error::Unsubmitted { .. }
        | transport::Error::Unfinished { .. } => Code::Unavailable,
    };
    Error { code, message: error.to_string(), hint: error.hint().map(str::to_owned) }
}
