//! stub
use super::{Error, Events, Request, Transport};
/// stub
#[derive(Debug)]
pub struct Sqlite;
impl Sqlite {
    /// stub
    pub fn open(_: &std::path::Path, _: Events) -> Result<Self, Error> {
        Err(Error::Closed)
    }
}
impl Transport for Sqlite {
    fn ask(&self, _: Request) {}
}
