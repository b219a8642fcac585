//! Items of lists as JSON.

mod chosen;

use serde::Serialize;

use crate::error::Result;

pub(crate) use chosen::Chosen;

/// An item of a list.
pub trait Item: Serialize + Sized {
    /// Writes the item as JSON, the same as its serializer would: with all of its fields, or with only these.
    ///
    /// # Errors
    /// [`Error::Internal`](crate::Error::Internal) if the item cannot be serialized.
    fn write_json(&self, fields: Option<&[&'static str]>, json: &mut Vec<u8>) -> Result<()> {
        match fields {
            Some(fields) => serde_json::to_writer(json, &Chosen { record: self, fields })?,
            None => serde_json::to_writer(json, self)?,
        }
        Ok(())
    }
}
