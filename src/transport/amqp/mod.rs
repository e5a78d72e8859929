//! stub
use super::{Error, Events, Request, Transport};
/// stub
#[derive(Debug)]
pub struct Amqp;
impl Amqp {
    /// stub
    pub fn open(_: &str, _: Events) -> Result<Self, Error> {
        Err(Error::Closed)
    }
}
impl Transport for Amqp {
    fn ask(&self, _: Request) {}
}
