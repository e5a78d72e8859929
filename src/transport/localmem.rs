//! stub
use super::{Events, Request, Transport};
/// stub
#[derive(Debug)]
pub struct Localmem;
impl Localmem {
    /// stub
    pub fn open(_: &str, _: Events) -> Self {
        Self
    }
}
impl Transport for Localmem {
    fn ask(&self, _: Request) {}
}
