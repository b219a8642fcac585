//! Cursors: the start of a list's next page, sealed so that only this program can create one.

use chrono::DateTime;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{List, OrderKind, Spec};
use crate::platform::signed_links::Signer;
use crate::values::Fault;

const ID: usize = 16;

/// The start of a list's next page: the record before it, and how to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The value of the order's expression.
    pub key: Key,
    /// The record.
    pub id: Uuid,
    /// How the records that match are found from there on.
    pub access: Access,
}

/// The value of an order's expression, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The whole value.
    Whole(String),
    /// The start of a value that is too long for a cursor. The rest is read from the record.
    Start(String),
    /// The record has no value.
    Empty,
}

impl Key {
    /// The maximum size of a key in a cursor, in bytes.
    const MAX: usize = 300;

    fn encode(&self) -> (u8, &str) {
        match self {
            Self::Empty => (0, ""),
            Self::Whole(key) if key.len() <= Self::MAX => (1, key),
            Self::Whole(key) | Self::Start(key) => (2, &key[..key.floor_char_boundary(Self::MAX)]),
        }
    }

    fn decode(form: u8, key: &[u8]) -> Option<Self> {
        let key = String::from_utf8(key.to_vec()).ok()?;
        match form {
            0 => key.is_empty().then_some(Self::Empty),
            1 => Some(Self::Whole(key)),
            2 => Some(Self::Start(key)),
            _ => None,
        }
    }
}

/// How the records that match a list's filters are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// It is not known yet whether few records match.
    #[default]
    Undecided,
    /// Few records match: an index of a filtered column finds all of them.
    Lookup,
    /// Many records match: the index of the order is scanned, and each record is checked.
    Walk,
}

impl Place {
    /// Seals a cursor for the list that `context` identifies.
    fn seal(&self, signer: &Signer, context: &[u8; 32]) -> String {
        let access = match self.access {
            Access::Undecided => 0,
            Access::Lookup => 1,
            Access::Walk => 2,
        };
        let (form, key) = self.key.encode();
        signer.seal(context, &[self.id.as_bytes(), [access, form].as_slice(), key.as_bytes()].concat())
    }

    fn open(signer: &Signer, context: &[u8; 32], cursor: &str) -> Option<Self> {
        let content = signer.open(context, cursor)?;
        let (id, rest) = content.split_at_checked(ID)?;
        let ([access, form], key) = rest.split_first_chunk()?;
        let access = match access {
            0 => Access::Undecided,
            1 => Access::Lookup,
            2 => Access::Walk,
            _ => return None,
        };
        Some(Self { key: Key::decode(*form, key)?, id: Uuid::from_slice(id).ok()?, access })
    }
}

impl List {
    /// Seals the cursor of a page that begins after a place in this list.
    pub fn cursor(&self, signer: &Signer, place: &Place) -> String {
        place.seal(signer, &self.context)
    }

    pub(super) fn open_cursor(&self, signer: &Signer, cursor: &str) -> Result<Place, Fault> {
        let place = Place::open(signer, &self.context, cursor);
        place.filter(|place| self.order_kind().accepts(&place.key)).ok_or_else(no_cursor)
    }
}

fn no_cursor() -> Fault {
    Fault::new("invalid", "is not a cursor of this list with these filters and this order")
}

/// The context that binds cursors to a list: the workspace, the list, and every parameter that
/// determines its records and their order.
pub(super) fn context(
    workspace_id: Uuid,
    spec: &Spec,
    parent: Option<(&str, Uuid)>,
    parameters: &[(String, String)],
) -> [u8; 32] {
    named_context(workspace_id, &format!("{};{:?}", spec.table, spec.only), parent, parameters)
}

fn named_context(
    workspace_id: Uuid,
    list: &str,
    parent: Option<(&str, Uuid)>,
    parameters: &[(String, String)],
) -> [u8; 32] {
    let mut deciding: Vec<(&str, &str)> = parameters
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "cursor" | "limit" | "count"))
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    deciding.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(workspace_id);
    hash.update(format!("{list};{parent:?};"));
    for (name, text) in deciding {
        hash.update(format!("{}:{name}={}:{text};", name.len(), text.len()));
    }
    hash.finalize().into()
}

/// The cursors of a list that is ordered by id only.
#[derive(Debug, Clone)]
pub struct IdCursors {
    context: [u8; 32],
}

impl IdCursors {
    /// The cursors of the workspace's list with this unique name.
    pub fn new(workspace_id: Uuid, name: &str) -> Self {
        let parameters = [("ids of".to_owned(), name.to_owned())];
        Self { context: named_context(workspace_id, "", None, &parameters) }
    }

    /// Seals the cursor of a page that begins after a record.
    pub fn seal(&self, signer: &Signer, id: Uuid) -> String {
        Place { key: Key::Empty, id, access: Access::Undecided }.seal(signer, &self.context)
    }

    /// Opens a cursor and returns the record before its page.
    ///
    /// # Errors
    /// A [`Fault`] for a cursor of another list.
    pub fn open(&self, signer: &Signer, cursor: &str) -> Result<Uuid, Fault> {
        Place::open(signer, &self.context, cursor).map(|place| place.id).ok_or_else(no_cursor)
    }
}

impl OrderKind {
    /// Whether the database can parse the key of a cursor.
    fn accepts(self, key: &Key) -> bool {
        let Key::Whole(key) = key else { return self == Self::Text || *key == Key::Empty };
        match self {
            Self::Time => DateTime::parse_from_str(key, "%Y-%m-%d %H:%M:%S%.f%#z").is_ok(),
            Self::Text => !key.contains('\0'),
            Self::Id => Uuid::try_parse(key).is_ok(),
            Self::Number => key.parse::<f64>().is_ok_and(f64::is_finite),
        }
    }
}
