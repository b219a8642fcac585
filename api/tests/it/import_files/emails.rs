//! Addresses as they stand in cells.

use serde_json::json;

use super::*;

/// Case `emails-mixed`.
#[tokio::test]
async fn addresses_of_many_forms_are_found_in_their_cells() {
    let (api, _worker) = start().await;
    let file = "Name,Email\r\nTwo,\"uno@example.com, due@example.com\"\r\nSemi,uno.semi@example.com;due.semi@example.com\r\n\
                Named,Nell Named <nell@example.com>\r\nMailto,mailto:mia@example.com\r\nUpper,LOUD.CASE@EXAMPLE.COM\r\n\
                Idn,info@bücher.example\r\nPuny,info@xn--mnchen-3ya.example\r\nTrail,tail@example.com \r\n\
                Nbsp,hard@example.com\u{a0}\r\nDot,full@example.com.\r\nQuoted,'apostrophe@example.com'\r\n\
                Uni,günter@example.com\r\nAngle,<bracket@example.com>\r\nSpace,in side@example.com\r\nZero,\u{200b}width@example.com\r\n";
    let job = import(&api, LEADS, "", file).await;
    // An address with a space inside is none.
    assert_counts(&job, json!({ "created": 14, "failed": 1 }));
    let lines: Vec<_> = reported(&api, &job, "failed,skipped").await.iter().map(|row| row["line"].clone()).collect();
    assert_eq!(lines, [15]);
    for (name, email) in [
        ("Two", "uno@example.com"),
        ("Semi", "uno.semi@example.com"),
        ("Named", "nell@example.com"),
        ("Mailto", "mia@example.com"),
        ("Upper", "LOUD.CASE@EXAMPLE.COM"),
        ("Idn", "info@bücher.example"),
        ("Trail", "tail@example.com"),
        ("Nbsp", "hard@example.com"),
        ("Quoted", "apostrophe@example.com"),
        ("Uni", "günter@example.com"),
        ("Angle", "bracket@example.com"),
        ("Zero", "width@example.com"),
    ] {
        assert_has(&person(&api, LEADS, email).await, json!({ "name": name, "email": email }));
    }
    assert_eq!(person(&api, LEADS, "full@example.com").await["name"], "Dot");
    for (email, others) in [("uno@example.com", "due@example.com"), ("uno.semi@example.com", "due.semi@example.com")] {
        assert_eq!(other_emails(&person(&api, LEADS, email).await), others);
    }
}

/// Further forms: the cell, the address, and the others in it.
#[tokio::test]
async fn the_first_valid_address_of_a_cell_counts_and_the_others_are_kept() {
    let (api, _worker) = start().await;
    let cells: [(&str, &str, &[&str]); 16] = [
        ("Ann Lee <a01@example.com>", "a01@example.com", &[]),
        ("\"Lee, Ann\" <a02@example.com>", "a02@example.com", &[]),
        ("MAILTO:a03@example.com", "a03@example.com", &[]),
        ("“a04@example.com”", "a04@example.com", &[]),
        ("\u{feff}a05@example.com", "a05@example.com", &[]),
        ("\u{3000}a06@example.com\u{2009}", "a06@example.com", &[]),
        (
            "a07@example.com; b07@example.com; c07@example.com",
            "a07@example.com",
            &["b07@example.com", "c07@example.com"],
        ),
        ("a08@example.com ::: b08@example.com", "a08@example.com", &["b08@example.com"]),
        ("a09@example.com\nb09@example.com", "a09@example.com", &["b09@example.com"]),
        ("n/a; a10@example.com", "a10@example.com", &[]),
        ("a11@example.com,", "a11@example.com", &[]),
        ("Ann <a12@example.com>, Bob <b12@example.com>", "a12@example.com", &["b12@example.com"]),
        ("o'neil13@example.com", "o'neil13@example.com", &[]),
        ("a14+news@example.com", "a14+news@example.com", &[]),
        ("mailto:a15@example.com;mailto:b15@example.com", "a15@example.com", &["b15@example.com"]),
        ("not an address; a16@exämple.com ; b16@example.com", "a16@exämple.com", &["b16@example.com"]),
    ];
    let row = |(cell, ..): &(&str, &str, &[&str])| format!("N,\"{}\"\n", cell.replace('"', "\"\""));
    let job = import(&api, LEADS, "", format!("Name,Email\n{}", cells.iter().map(row).collect::<String>())).await;
    assert_eq!((count(&job, "created"), count(&job, "failed")), (16, 0), "{job}");
    for (cell, email, others) in cells {
        let record = person(&api, LEADS, email).await;
        assert_eq!(record["email"], email, "{cell}");
        if others.is_empty() {
            assert!(record["custom_fields"]["other_emails"].is_null(), "{cell}: {record}");
        } else {
            let kept = other_emails(&record);
            assert!(others.iter().all(|other| kept.contains(other)), "{cell}: {kept}");
        }
    }
}

#[tokio::test]
async fn what_is_no_address_rejects_its_row() {
    let (api, _worker) = start().await;
    let cells =
        ["", "none", "ann@", "@example.com", "a b@example.com", "ann.example.com", "a@b@example.com", "n/a", "-"];
    // The cell without an address, too, has a phone beside it, so that it is no footer.
    let row = |cell: &&str| format!("Ann,{cell},+1\n");
    let file = format!("Name,Email,Phone\n{}", cells.iter().map(row).collect::<String>());
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "failed": 9 }));
    for row in reported(&api, &job, "failed").await {
        assert_eq!(row["field"], "email", "{row}");
    }
}

#[tokio::test]
async fn a_second_column_of_addresses_steps_in() {
    let (api, _worker) = start().await;
    for (n, (first, second)) in [
        ("Email", "Secondary Email"),
        ("Work Email", "Personal Email"),
        ("Email - Work", "Email - Home"),
        ("Person - Email - Work", "Person - Email - Home"),
        ("E-mail 1 - Value", "E-mail 2 - Value"),
        ("E-Mail geschäftlich", "E-Mail privat"),
        ("Email Address", "Other Email"),
        ("Email", "Email 2"),
        ("E-mail Address", "E-mail 2 Address"),
        ("E-mail zakelijk", "E-mail privé"),
    ]
    .into_iter()
    .enumerate()
    {
        // Whichever of them stands first.
        for (side, headers) in [[first, second], [second, first]].into_iter().enumerate() {
            let at = format!("{n}-{side}.example.com");
            let cells = [
                [format!("work@{at}"), format!("home@{at}")],
                [String::new(), format!("only@{at}")],
                ["bad".to_owned(), format!("good@{at}")],
            ];
            let row = |[work, home]: &[String; 2]| {
                if side == 0 { format!("P,{work},{home}\n") } else { format!("P,{home},{work}\n") }
            };
            let file = format!("Name,{}\n{}", headers.join(","), cells.iter().map(row).collect::<String>());
            let job = import(&api, LEADS, "", file).await;
            assert_eq!(count(&job, "created"), 3, "{first}: {job}");
            assert_mapping(&job, &[(first, "email"), (second, "email")]);
            let record = person(&api, LEADS, &format!("work@{at}")).await;
            assert_eq!(other_emails(&record), format!("home@{at}"), "{first}");
            person(&api, LEADS, &format!("only@{at}")).await;
            person(&api, LEADS, &format!("good@{at}")).await;
        }
    }
}
