//! Signed tokens in links, which name a record and prove that this program created the link.
//!
//! Tokens never expire: the code that reads a link decides what it still allows. The cursors of lists
//! are sealed with the same secret.

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
/// The first 128 bits of HMAC-SHA256: enough against guessing, and links stay short (RFC 2104, 5).
const TAG: usize = 16;
const ID: usize = 16;
/// The purpose of the tokens in cursors.
const CURSOR: &str = "cursor";

/// Signs and verifies tokens with the secret that all processes share.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// Reads the secret of this database; creates it on first use.
    pub async fn load(connection: &mut PgConnection) -> Result<Self> {
        Self::new(&secret(connection, SECRET).await?)
    }

    pub(crate) fn new(secret: &[u8]) -> Result<Self> {
        Hmac::new_from_slice(secret).map(Self).map_err(|error| Error::internal(error.to_string()))
    }

    /// Returns a URL-safe token of 64 characters, which is valid only for this purpose.
    pub fn sign(&self, purpose: &str, workspace_id: Uuid, id: Uuid) -> String {
        let tag = self.mac(purpose, workspace_id.as_bytes(), id.as_bytes()).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([workspace_id.as_bytes(), id.as_bytes(), &tag[..TAG]].concat())
    }

    /// Returns the workspace and the id that a token of this purpose names; `None` for a token with a wrong
    /// signature.
    pub fn verify(&self, purpose: &str, token: &str) -> Option<(Uuid, Uuid)> {
        let token: [u8; 2 * ID + TAG] = URL_SAFE_NO_PAD.decode(token).ok()?.try_into().ok()?;
        let (ids, tag) = token.split_at(2 * ID);
        let (workspace_id, id) = ids.split_at(ID);
        self.mac(purpose, workspace_id, id).verify_truncated_left(tag).ok()?;
        Some((Uuid::from_slice(workspace_id).ok()?, Uuid::from_slice(id).ok()?))
    }

    /// Returns a token that carries a cursor's content, for the list that `context` identifies.
    pub(crate) fn seal(&self, context: &[u8; 32], content: &[u8]) -> String {
        let tag = self.mac(CURSOR, context, content).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([content, &tag[..TAG]].concat())
    }

    /// Returns the content of a token that was sealed for this context; `None` for any other token.
    pub(crate) fn open(&self, context: &[u8; 32], token: &str) -> Option<Vec<u8>> {
        let mut content = URL_SAFE_NO_PAD.decode(token).ok()?;
        let tag = content.split_off(content.len().checked_sub(TAG)?);
        self.mac(CURSOR, context, &content).verify_truncated_left(&tag).ok()?;
        Some(content)
    }

    /// The MAC covers a part of fixed length (an id, or a context), the rest, and the purpose. Different
    /// parts give different texts as long as no purpose is the ending of another.
    fn mac(&self, purpose: &str, first: &[u8], rest: &[u8]) -> Hmac<Sha256> {
        let Self(keyed) = self;
        keyed.clone().chain_update(first).chain_update(rest).chain_update(purpose)
    }
}

/// The secret of this name: 32 random bytes, created on first use and shared by all processes.
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
    fn a_token_is_valid_only_for_its_purpose() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let (workspace_id, id) = (Uuid::now_v7(), Uuid::now_v7());
        let token = signer.sign("feedback", workspace_id, id);
        assert_eq!(token.len(), 64);
        assert_eq!(signer.verify("feedback", &token), Some((workspace_id, id)));
        assert_eq!(signer.verify("unsubscribe", &token), None);
        assert_eq!(Signer::new(&[8; 32]).unwrap().verify("feedback", &token), None);
    }

    #[test]
    fn an_altered_token_is_invalid() {
        let signer = Signer::new(&[7; 32]).unwrap();
        let token = signer.sign("feedback", Uuid::now_v7(), Uuid::now_v7());
        for at in 0..token.len() {
            let mut altered = token.clone();
            altered.replace_range(at..=at, if &token[at..=at] == "A" { "B" } else { "A" });
            assert_eq!(signer.verify("feedback", &altered), None, "{at}");
        }
        for wrong in ["", "A", &token[1..], &format!("{token}A"), &format!("{token}="), "ü"] {
            assert_eq!(signer.verify("feedback", wrong), None, "{wrong}");
        }
    }
}
