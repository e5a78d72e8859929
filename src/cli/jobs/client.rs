//! The connection of these commands.

use crate::{cli::waiting::WaitingClient, config::Config, exit_code::Error, transport};

/// Opens the transport; from now on a signal ends a wait and not the process.
pub(super) fn open(config: &Config) -> Result<WaitingClient, Error> {
    let mut client = WaitingClient::open(config, transport::CLIENT_PATIENCE)?;
    client.listen()?;
    Ok(client)
}
