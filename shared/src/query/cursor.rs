//! Cursors: the start of a list's next page, sealed so that only this program can create one.

use chrono::DateTime;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{List, OrderKind};
use crate::platform::signed_links::Signer;
use crate::values::Fault;

const ID: usize = 16;

/// The start of a list's next page: the record before it, and how to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The value of the order's expression, as text.
    pub key: String,
    /// The record.
    pub id: Uuid,
    /// How the records that match are found from there on.
    pub access: Access,
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
        signer.seal(context, &[self.id.as_bytes(), [access].as_slice(), self.key.as_bytes()].concat())
    }

    fn open(signer: &Signer, context: &[u8; 32], cursor: &str) -> Option<Self> {
        let content = signer.open(context, cursor)?;
        let (id, rest) = content.split_at_checked(ID)?;
        let (access, key) = rest.split_first()?;
        let access = match access {
            0 => Access::Undecided,
            1 => Access::Lookup,
            2 => Access::Walk,
            _ => return None,
        };
        Some(Self { key: String::from_utf8(key.to_vec()).ok()?, id: Uuid::from_slice(id).ok()?, access })
    }
}

impl List {
    /// Seals the cursor of a page that begins after a place in this list.
    pub fn cursor(&self, signer: &Signer, place: &Place) -> String {
        place.seal(signer, &self.context)
    }

    pub(super) fn open_cursor(&self, signer: &Signer, cursor: &str) -> Result<Place, Fault> {
        let place = Place::open(signer, &self.context, cursor);
        place.filter(|place| self.order.kind.accepts(&place.key)).ok_or_else(no_cursor)
    }
}

fn no_cursor() -> Fault {
    Fault::new("invalid", "is not a cursor of this list with these filters and this order")
}

/// The context that binds cursors to a list: the workspace, the list, and every parameter that
/// determines its records and their order.
pub(super) fn context(
    workspace_id: Uuid,
    table: &str,
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
    hash.update(format!("{table};{parent:?};"));
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
        Self { context: context(workspace_id, "", None, &parameters) }
    }

    /// Seals the cursor of a page that begins after a record.
    pub fn seal(&self, signer: &Signer, id: Uuid) -> String {
        Place { key: String::new(), id, access: Access::Undecided }.seal(signer, &self.context)
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
    fn accepts(self, key: &str) -> bool {
        match self {
            Self::Time => DateTime::parse_from_str(key, "%Y-%m-%d %H:%M:%S%.f%#z").is_ok(),
            Self::Text => !key.contains('\0'),
            Self::Id => Uuid::try_parse(key).is_ok(),
        }
    }
}
