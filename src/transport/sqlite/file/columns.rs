//! Reading columns that any program may have written.
//!
//! SQLite stores a value of any class in any column, and the file is open to every program. So no column is read as what it
//! should be: text and bytes are taken for each other, and a number that is none is said to be none. What cannot be read of a
//! task makes it a dead letter, in its turn; never an error of the file, which would end the master, at every start.

use rusqlite::{Row, types::ValueRef};

use crate::{clock::Timestamp, unicode::cleaned};

/// A value as text; a null as none.
pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => cleaned(bytes).into_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Null => String::new(),
    })
}

/// A value as bytes; a null as none.
pub(crate) fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    match row.get_ref(column)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(bytes.to_vec()),
        _ => text(row, column).map(String::into_bytes),
    }
}

/// A value as text that is parsed further; anything but text counts as none.
pub(crate) fn parsed<T: serde::de::DeserializeOwned + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = row.get_ref(column)? else { return Ok(T::default()) };
    Ok(serde_json::from_slice(bytes).unwrap_or_default())
}

/// A moment; anything but a number counts as none.
pub(crate) fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(number(row.get_ref(column)?).map(Timestamp))
}

/// A whole number, also one that was written with a point.
pub(crate) fn number(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        ValueRef::Real(number) => Some(number as i64),
        _ => None,
    }
}

/// Reads numbers that count something, and notes those that cannot.
#[derive(Default)]
pub(crate) struct Counts {
    /// What is wrong, of the first that is.
    pub(crate) unreadable: Option<String>,
}

impl Counts {
    /// A count from 0; one that is none is noted, and is 0.
    pub(crate) fn read(&mut self, row: &Row<'_>, column: usize, name: &str) -> rusqlite::Result<u32> {
        let value = row.get_ref(column)?;
        let count = match value {
            ValueRef::Integer(number) => u32::try_from(number).ok(),
            _ => None,
        };
        if count.is_none() {
            let class = value.data_type();
            let shown = number(value).map_or_else(|| format!("of the class {class}"), |number| number.to_string());
            self.unreadable.get_or_insert_with(|| format!("the row cannot be read: its {name} is {shown}"));
        }
        Ok(count.unwrap_or(0))
    }
}
