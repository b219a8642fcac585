//! Classification of database errors: temporary or permanent, and whether they count against a job.

use shared::Error;
use shared::error::ErrorClass;

use crate::support::Ledger;

#[tokio::test]
async fn temporary_database_errors_are_not_defects() {
    let ledger = Ledger::create().await;
    let raise = async |code: &str| {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END $$");
        Error::from(sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&ledger.pool).await.unwrap_err())
    };
    // Such as a lock timeout, a full disk, too many connections, a standby, or a changed password.
    for code in ["57014", "55P03", "53100", "53300", "25006", "28P01", "3D000", "58030"] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Unavailable(_)), "{code}: {error:?}");
    }
    // An invalid value is rejected every time.
    for (code, of_data) in [("22P05", true), ("54000", true), ("42P01", false), ("XX000", false)] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Internal(_)) && error.is_of_data() == of_data, "{code}: {error:?}");
    }
}

#[tokio::test]
async fn the_class_of_an_error_decides_whether_it_counts_against_a_job() {
    let ledger = Ledger::create().await;
    let raise = async |code: &str| {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'for the test' USING ERRCODE = '{code}'; END $$");
        Error::from(sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&ledger.pool).await.unwrap_err())
    };
    for (class, codes) in [
        (ErrorClass::Connection, &["08P01", "57P01", "57P03", "53300", "28P01", "3D000"][..]),
        (ErrorClass::Node, &["08000", "08006"]),
        (ErrorClass::Resources, &["53000", "53100", "53200", "57000", "58000", "58030", "25006"]),
        (ErrorClass::Relation, &["42P01", "55P03"]),
        (ErrorClass::Ordinary, &["57014", "42501", "40001", "25P03", "54000", "XX000", "P0001", "0A000"]),
        (ErrorClass::Defect, &["22012", "22P05", "23502", "23505", "23503", "42703", "42883"]),
    ] {
        for code in codes {
            let error = raise(code).await;
            assert_eq!(error.class(), class, "{code}: {error:?}");
        }
    }
    let condition = raise("53100").await.condition();
    assert_eq!(condition.as_deref(), Some("the database's disk is full (SQLSTATE 53100)"));
    assert_eq!(raise("XX000").await.condition(), None);
}
