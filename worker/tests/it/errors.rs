//! What an error of the database says: that it cannot now, or that it never will.

use shared::Error;

use crate::support::Ledger;

#[tokio::test]
async fn what_the_database_does_not_do_now_is_no_defect() {
    let ledger = Ledger::create().await;
    let raise = async |code: &str| {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'as told' USING ERRCODE = '{code}'; END $$");
        Error::from(sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&ledger.pool).await.unwrap_err())
    };
    // A lock held for long, a full disk, no connection left, a standby, a password that was changed.
    for code in ["57014", "55P03", "53100", "53300", "25006", "28P01", "3D000", "58030"] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Unavailable(_)), "{code}: {error:?}");
    }
    // A value that it does not take is refused again, however often it is sent.
    for (code, of_data) in [("22P05", true), ("54000", true), ("42P01", false), ("XX000", false)] {
        let error = raise(code).await;
        assert!(matches!(error, Error::Internal(_)) && error.is_of_data() == of_data, "{code}: {error:?}");
    }
}
