//! What an API key may do.

use crate::string_enum;

string_enum! {
    /// What an API key may do.
    Scope {
        /// Everything, now and in later versions.
        All = "*",
        /// Reads records, reports and the feed.
        RecordsRead = "records:read",
        /// Creates, updates and restores records.
        RecordsWrite = "records:write",
        /// Deletes records.
        RecordsDelete = "records:delete",
        /// Imports files.
        Imports = "imports",
        /// Exports, and lists without a `limit`.
        Exports = "exports",
        /// Runs, bulk changes, schedules, suppressions, and decisions about emails.
        Workflows = "workflows",
        /// Reads emails and suppressions.
        EmailsRead = "emails:read",
        /// Reads and changes settings and users.
        Settings = "settings",
        /// Manages webhooks.
        Webhooks = "webhooks",
        /// Manages API keys, and reads the audit log.
        Keys = "keys",
    }
}
