//! JSON bodies, read field by field.

use serde_json::{Map, Value};

use crate::error::{Error, FieldError, Result};
use crate::fields::Field;
use crate::patch::Patch;

/// A JSON object that is being read field by field, gathering every fault.
#[derive(Debug)]
pub struct Object {
    fields: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Object {
    /// Starts reading an object.
    pub fn new(fields: Map<String, Value>) -> Self {
        Self { fields, errors: Vec::new() }
    }

    /// A field that must be there and cannot be `null`.
    pub fn required<T: Field>(&mut self, name: &str) -> Option<T> {
        match self.take(name) {
            Patch::Set(value) => Some(value),
            Patch::Clear | Patch::Keep => {
                // A value that was refused has said so already.
                if !self.errors.iter().any(|error| error.field == name) {
                    self.errors.push(FieldError::new(name, "required", "is required"));
                }
                None
            }
        }
    }

    /// A field that may be absent but cannot be emptied.
    pub fn present<T: Field>(&mut self, name: &str) -> Option<T> {
        self.fields.contains_key(name).then(|| self.required(name)).flatten()
    }

    /// A field that may be absent, and emptied by `null` or an empty string.
    pub fn take<T: Field>(&mut self, name: &str) -> Patch<T> {
        match self.fields.shift_remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Patch::Clear,
            Some(value) => match T::from_json(value) {
                Ok(value) => Patch::Set(value),
                Err(fault) => {
                    self.errors.push(fault.of(name));
                    Patch::Keep
                }
            },
        }
    }

    /// A field that only the server sets: an update may send it back unchanged.
    pub fn read_only(&mut self, name: &str, present: Option<&Value>) {
        if let Some(value) = self.fields.shift_remove(name)
            && present != Some(&value)
        {
            self.errors.push(FieldError::new(name, "read_only", "cannot be set"));
        }
    }

    /// Ends the reading: fields that nobody asked for are faults, too.
    pub fn finish(mut self) -> Result<()> {
        for name in self.fields.keys() {
            self.errors.push(FieldError::new(name, "unknown", "is not a known field"));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Error::Invalid(self.errors)) }
    }
}
