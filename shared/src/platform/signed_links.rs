//! Signed tokens in links: they say which record a link is for, and that it was this program that made
//! it. They never expire; what a link may still do is for its reader to say. The cursors of lists are
//! sealed under the same secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};

/// The name of the secret.
const SECRET: &str = "links";
/// Of HMAC-SHA256, the first 128 bits: nobody guesses them, and links stay short (RFC 2104, 5).
const TAG: usize = 16;
const ID: usize = 16;
/// The purpose of the tokens in lists' cursors.
const CURSOR: &str = "cursor";

/// Signs and verifies tokens under the secret that all processes share.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// The signer of this database.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database is away.
    pub async fn load(connection: &mut PgConnection) -> Result<Self> {
        Self::new(&secret(connection, SECRET).await?)
    }

    pub(crate) fn new(secret: &[u8]) -> Result<Self> {
        Hmac::new_from_slice(secret).map(Self).map_err(|error| Error::internal(error.to_string()))
    }

    /// A token of 64 characters that can stand in any URL. A token of one purpose is none of another.
    pub fn sign(&self, purpose: &str, workspace_id: Uuid, id: Uuid) -> String {
        let tag = self.mac(purpose, workspace_id.as_bytes(), id.as_bytes()).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([workspace_id.as_bytes(), id.as_bytes(), &tag[..TAG]].concat())
    }

    /// The workspace and the id that a token of this purpose names; `None` for one that is not ours, or
    /// that was altered.
    pub fn verify(&self, purpose: &str, token: &str) -> Option<(Uuid, Uuid)> {
        let token: [u8; 2 * ID + TAG] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (ids, tag) = token.split_at(2 * ID);
        let (workspace_id, id) = ids.split_at(ID);
        self.mac(purpose, workspace_id, id).verify_truncated_left(tag).ok()?;
        Some((Uuid::from_slice(workspace_id).ok()?, Uuid::from_slice(id).ok()?))
    }

    /// A token that carries a cursor's content, for the list that `context` names.
    pub(crate) fn seal(&self, context: &[u8; 32], content: &[u8]) -> String {
        let tag = self.mac(CURSOR, context, content).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([content, &tag[..TAG]].concat())
    }

    /// The content of a token that was sealed for this context; `None` for any other.
    pub(crate) fn open(&self, context: &[u8; 32], token: &str) -> Option<Vec<u8>> {
        let mut content = URL_SAFE_NO_PAD.decode(token).ok()?;
        let tag = content.split_off(content.len().checked_sub(TAG)?);
        self.mac(CURSOR, context, &content).verify_truncated_left(&tag).ok()?;
        Some(content)
    }

    /// Over a part of one length (an id, or a context), the rest, and then the purpose: nothing can run into
    /// another, as long as no purpose ends as another does.
    fn mac(&self, purpose: &str, first: &[u8], rest: &[u8]) -> Hmac<Sha256> {
        let Self(keyed) = self;
        keyed.clone().chain_update(first).chain_update(rest).chain_update(purpose)
    }
}

/// The secret of that name: 32 random bytes, made on first use and then the same for all processes.
async fn secret(connection: &mut PgConnection, name: &str) -> Result<Vec<u8>> {
    let mut value = [0; 32];
    SysRng.try_fill_bytes(&mut value).map_err(|error| Error::Internal(error.into()))?;
    sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(name)
        .bind(value)
        .execute(&mut *connection)
        .await?;
    Ok(sqlx::query_scalar("SELECT value FROM secrets WHERE name = $1").bind(name).fetch_one(connection).await?)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_purpose_and_for_nothing_else() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let (workspace_id, id) = (Uuid::now_v7(), Uuid::now_v7());
        let token = signer.sign("feedback", workspace_id, id);
        assert_eq!(token.len(), 64);
        assert_eq!(signer.verify("feedback", &token), Some((workspace_id, id)));
        assert_eq!(signer.verify("unsubscribe", &token), None);
        assert_eq!(Signer::new(&[8; 32]).unwrap().verify("feedback", &token), None);
    }

    #[test]
    fn a_token_that_was_altered_anywhere_is_none() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.sign("feedback", Uuid::now_v7(), Uuid::now_v7());
        for place in 0..token.len() {
            let mut altered = token.clone();
            altered.replace_range(place..=place, if &token[place..=place] == "A" { "B" } else { "A" });
            assert_eq!(signer.verify("feedback", &altered), None, "{place}");
        }
        for wrong in ["", "A", &token[1..], &format!("{token}A"), &format!("{token}="), "ü"] {
            assert_eq!(signer.verify("feedback", wrong), None, "{wrong}");
        }
    }
}
