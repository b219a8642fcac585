//! JSON bodies, read field by field.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, FieldError, FieldErrors, Result};
use crate::values::patch::Patch;
use crate::values::{Field, is_blank};

/// Reads a JSON object field by field and collects every fault.
#[derive(Debug, Clone)]
pub struct Object {
    fields: Map<String, Value>,
    errors: FieldErrors,
}

impl Object {
    /// Starts reading an object.
    pub fn new(fields: Map<String, Value>) -> Self {
        Self { fields, errors: FieldErrors::default() }
    }

    /// Whether the object has a field of this name.
    pub fn names(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Whether the object has a field of this name that is not `null`.
    pub fn is_given(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// The text of a field, if it is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// Takes the id out of the object, if it has one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not a UUID.
    pub fn id(&mut self) -> Result<Option<Uuid>> {
        match self.fields.shift_remove("id").map(Uuid::from_json).transpose() {
            Ok(id) => Ok(id),
            Err(fault) => Err(Error::Invalid(vec![fault.of("id")])),
        }
    }

    /// Takes a field that is required and cannot be `null`.
    pub fn required<T: Field>(&mut self, name: &str) -> Option<T> {
        let faults = self.errors.len();
        match self.take(name) {
            Patch::Set(value) => Some(value),
            Patch::Clear | Patch::Keep => {
                // An invalid value was already reported.
                if self.errors.len() == faults {
                    self.errors.push(FieldError::new(name, "required", "is required"));
                }
                None
            }
        }
    }

    /// Takes a field that may be absent but cannot be `null`.
    pub fn present<T: Field>(&mut self, name: &str) -> Option<T> {
        self.fields.contains_key(name).then(|| self.required(name)).flatten()
    }

    /// Takes a field that may be absent or cleared, by `null` or, for a string, by an empty string.
    pub fn take<T: Field>(&mut self, name: &str) -> Patch<T> {
        match self.fields.shift_remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::String(text)) if T::IS_STRING && is_blank(&text) => Patch::Clear,
            Some(value) => match T::from_json(value) {
                Ok(value) => Patch::Set(value),
                Err(fault) => {
                    self.errors.push(fault.of(name));
                    Patch::Keep
                }
            },
        }
    }

    /// Takes a field as it is.
    pub fn take_value(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name)
    }

    /// Takes a field that is an object, to be read in turn and passed to [`Object::close`].
    pub fn open(&mut self, name: &str) -> Patch<Self> {
        match self.fields.shift_remove(name) {
            None => Patch::Keep,
            Some(Value::Null) => Patch::Clear,
            Some(Value::Object(fields)) => Patch::Set(Self::new(fields)),
            Some(_) => {
                self.refuse(FieldError::new(name, "invalid", "must be a JSON object"));
                Patch::Keep
            }
        }
    }

    /// Takes a field that is an object with any fields.
    pub fn take_map(&mut self, name: &str) -> Patch<Map<String, Value>> {
        self.open(name).map(|object| object.fields)
    }

    /// Finishes an object that was taken from the field `path`, and adds its faults to this one's.
    pub fn close(&mut self, path: &str, object: Self) {
        self.errors.absorb(path, object.into_errors());
    }

    /// Takes a field that is a list of objects, each to be read in turn and passed to [`Object::close`] with
    /// its path, such as `items.0`. Items that are not objects are reported and left out.
    pub fn open_all(&mut self, name: &str, max: usize) -> Patch<Vec<(String, Self)>> {
        let items = match self.fields.shift_remove(name) {
            None => return Patch::Keep,
            Some(Value::Null) => return Patch::Clear,
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.refuse(FieldError::new(name, "invalid", "must be an array of objects"));
                return Patch::Keep;
            }
        };
        if items.len() > max {
            self.refuse(FieldError::new(name, "out_of_range", format!("must have at most {max} items")));
            return Patch::Keep;
        }
        let mut objects = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{name}.{index}");
            match item {
                Value::Object(fields) => objects.push((path, Self::new(fields))),
                _ => self.refuse(FieldError::new(path, "invalid", "must be a JSON object")),
            }
        }
        Patch::Set(objects)
    }

    /// Adds a fault of a field that was read.
    pub fn refuse(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    /// Adds the faults of the value in the field `path`.
    pub fn refuse_inside(&mut self, path: &str, errors: Vec<FieldError>) {
        for error in errors {
            self.errors.push_with(|| error.inside(path));
        }
    }

    /// Ignores a field that has its present value: callers can send a stored value back unchanged, even if
    /// it would be rejected as a new one.
    pub fn drop_unchanged(&mut self, name: &str, present: &impl Serialize) {
        if let Some(value) = self.fields.get(name)
            && serde_json::to_value(present).is_ok_and(|present| present == *value)
        {
            self.fields.shift_remove(name);
        }
    }

    /// Adds the fault of a required field without a value, unless its value was already rejected.
    pub fn require(&mut self, name: &str) {
        if !self.errors.concerns(name) {
            self.errors.push(FieldError::new(name, "required", "is required"));
        }
    }

    /// Takes a read-only field: an update may send it back unchanged.
    pub fn read_only(&mut self, name: &str, present: Option<&impl Serialize>) {
        if let Some(value) = self.fields.shift_remove(name)
            && present.and_then(|present| serde_json::to_value(present).ok()).as_ref() != Some(&value)
        {
            self.errors.push(FieldError::new(name, "read_only", "cannot be set"));
        }
    }

    /// Takes a computed field: an update may send it back with any value, because it changes by itself.
    pub fn computed(&mut self, name: &str, is_update: bool) {
        if self.fields.shift_remove(name).is_some() && !is_update {
            self.errors.push(FieldError::new(name, "read_only", "cannot be set"));
        }
    }

    /// Finishes reading: fields that were not taken are unknown, and so are faults.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub fn finish(self) -> Result<()> {
        self.into_errors().check()
    }

    fn into_errors(mut self) -> FieldErrors {
        for name in self.fields.keys() {
            self.errors.push_with(|| FieldError::new(name, "unknown", "is not a known field"));
        }
        self.errors
    }
}
