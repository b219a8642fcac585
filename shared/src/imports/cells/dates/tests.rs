use super::*;

const UNKNOWN: DateForm = DateForm { dotted: Some(DateOrder::Dmy), other: None };

fn form(cells: &[&str]) -> DateForm {
    let mut evidence = DateEvidence::default();
    cells.iter().for_each(|cell| evidence.add(cell));
    evidence.form(false)
}

#[test]
fn forms_with_one_meaning_are_read() {
    for (text, time) in [
        ("2024-03-31T14:05:00+02:00", "2024-03-31T12:05:00Z"),
        ("2024-03-31T14:05:00.25Z", "2024-03-31T14:05:00.25Z"),
        ("2024-03-31", "2024-03-31T00:00:00Z"),
        ("2024-03-31 14:05", "2024-03-31T14:05:00Z"),
        ("2024-03-31 14:05:38", "2024-03-31T14:05:38Z"),
        ("2024-03-31T14:05", "2024-03-31T14:05:00Z"),
        ("2024-03-31 6:35:38", "2024-03-31T06:35:38Z"),
        ("2024-03-31 14:05:00 UTC", "2024-03-31T14:05:00Z"),
        ("2024-03-31 14:05:00 +0200", "2024-03-31T12:05:00Z"),
        ("2024-03-31 14:05:00.123456", "2024-03-31T14:05:00.123456Z"),
        ("2024/03/31", "2024-03-31T00:00:00Z"),
        ("2024/3/1 9:05", "2024-03-01T09:05:00Z"),
        ("2024.03.31", "2024-03-31T00:00:00Z"),
        ("2024. 3. 31.", "2024-03-31T00:00:00Z"),
        ("2024. 3. 31. 오후 2:05", "2024-03-31T14:05:00Z"),
        ("20240331", "2024-03-31T00:00:00Z"),
        ("20240331140500", "2024-03-31T14:05:00Z"),
        ("31.12.2025", "2025-12-31T00:00:00Z"),
        ("1.2.2026", "2026-02-01T00:00:00Z"),
        ("31. 12. 2025", "2025-12-31T00:00:00Z"),
        ("31.12.2025 14:05", "2025-12-31T14:05:00Z"),
        ("31.12.2025 14.05", "2025-12-31T14:05:00Z"),
        ("31.12.2025 um 14:05 Uhr", "2025-12-31T14:05:00Z"),
        ("31/12/2025 14h05", "2025-12-31T14:05:00Z"),
        ("31.12.25", "2025-12-31T00:00:00Z"),
        ("12/31/2025", "2025-12-31T00:00:00Z"),
        ("31/12/2025", "2025-12-31T00:00:00Z"),
        ("31-12-2025", "2025-12-31T00:00:00Z"),
        ("12/31/25", "2025-12-31T00:00:00Z"),
        ("4/4/2025", "2025-04-04T00:00:00Z"),
        ("3/31/2024, 10:15 AM", "2024-03-31T10:15:00Z"),
        ("3/31/2024 12:15 AM", "2024-03-31T00:15:00Z"),
        ("3/31/2024 2:05 p.m.", "2024-03-31T14:05:00Z"),
        ("31 Mar 2024", "2024-03-31T00:00:00Z"),
        ("31-Mar-24", "2024-03-31T00:00:00Z"),
        ("31 March 2024", "2024-03-31T00:00:00Z"),
        ("Mar 31, 2024", "2024-03-31T00:00:00Z"),
        ("March 31st, 2024 2:05 PM", "2024-03-31T14:05:00Z"),
        ("31. März 2024", "2024-03-31T00:00:00Z"),
        ("Sun, 31 Mar 2024 14:05:00 +0200", "2024-03-31T12:05:00Z"),
        ("2024年3月31日", "2024-03-31T00:00:00Z"),
        ("2024年3月31日 14:05", "2024-03-31T14:05:00Z"),
        ("2024년 3월 31일", "2024-03-31T00:00:00Z"),
        ("２０２４/０３/３１", "2024-03-31T00:00:00Z"),
        ("45382", "2024-03-31T00:00:00Z"),
        ("45382.5", "2024-03-31T12:00:00Z"),
        ("1711893900", "2024-03-31T14:05:00Z"),
        ("1711893900000", "2024-03-31T14:05:00Z"),
    ] {
        let read = read(text, UNKNOWN, Tz::UTC).map(|time| time.to_rfc3339());
        let expected = DateTime::parse_from_rfc3339(time).unwrap().to_utc().to_rfc3339();
        assert_eq!(read, Ok(expected), "{text}");
    }
}

#[test]
fn local_times_are_in_the_time_zone() {
    for (text, time) in [
        ("2024-07-01 14:05", "2024-07-01T12:05:00+00:00"),
        ("1.7.2024", "2024-06-30T22:00:00+00:00"),
        ("45474", "2024-06-30T22:00:00+00:00"),
        ("2024-07-01T14:05:00Z", "2024-07-01T14:05:00+00:00"),
        ("1719842700", "2024-07-01T14:05:00+00:00"),
    ] {
        assert_eq!(
            read(text, UNKNOWN, Tz::Europe__Berlin).map(|time| time.to_rfc3339()),
            Ok(time.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn a_cell_with_one_reading_settles_its_column() {
    let code = |text: &str, form: DateForm| read(text, form, Tz::UTC).map(|time| time.date_naive().to_string());
    let ambiguous = |text: &str, form: DateForm| code(text, form).unwrap_err().code == "ambiguous";
    assert!(ambiguous("12/3/2021", form(&["12/3/2021", "1/2/2023"])));
    assert_eq!(code("12/3/2021", form(&["12/3/2021", "07/30/2023"])), Ok("2021-12-03".to_owned()));
    assert_eq!(code("12/3/2021", form(&["30/07/2023"])), Ok("2021-03-12".to_owned()));
    assert_eq!(code("12-3-2021", form(&["30-07-2023"])), Ok("2021-03-12".to_owned()));
    // Contradicting cells settle nothing, but each is read.
    let mixed = form(&["07/30/2023", "30/07/2023"]);
    assert!(ambiguous("12/3/2021", mixed));
    assert_eq!(code("07/30/2023", mixed), Ok("2023-07-30".to_owned()));
    assert_eq!(code("30/07/2023", mixed), Ok("2023-07-30".to_owned()));
    // Dates with dots are a form of their own.
    let both = form(&["07/30/2023", "28.09.2025"]);
    assert_eq!(code("12/3/2021", both), Ok("2021-12-03".to_owned()));
    assert_eq!(code("1.2.2026", both), Ok("2026-02-01".to_owned()));
    assert_eq!(code("1.2.2026", form(&["3.31.2024"])), Ok("2026-01-02".to_owned()));
    // Two digits may also be a year at the beginning.
    assert!(ambiguous("10/11/12", form(&["10/11/12"])));
    assert_eq!(code("10/11/12", form(&["12/31/24"])), Ok("2012-10-11".to_owned()));
    assert_eq!(code("10/11/12", form(&["99/12/31"])), Ok("2010-11-12".to_owned()));
    let given = DateForm { dotted: Some(DateOrder::Mdy), other: Some(DateOrder::Mdy) };
    assert_eq!(code("1.2.2026", given), Ok("2026-01-02".to_owned()));
}

#[test]
fn other_text_is_no_date() {
    for text in [
        "",
        "soon",
        "2024",
        "2024-02-30",
        "2024-13-01",
        "32.1.2024",
        "1/2",
        "12:30",
        "5",
        "123",
        "1234567",
        "31 Foo 2024",
        "2024-03-31 25:00",
        "3/31/2024 13:00 PM",
        "31.12.2025 x",
        "1/2/3/4",
        "2024-03-31-05",
        "999",
        "31 Mar",
        "next 3 Mar 2024",
        "45382abc",
        "123456789",
    ] {
        assert_eq!(read(text, UNKNOWN, Tz::UTC).unwrap_err().code, "invalid", "{text:?}");
        assert!(!is_date(text), "{text:?}");
    }
    assert!(is_date("1/2/2024") && is_date("2021-05-06 07:08:09"));
}
