//! Delimiters, the line that names one, and rows before the header.

use serde_json::json;

use super::*;

/// Case `c04-semicolon-decimal-comma-trailing`: commas in the header and the cells, a semicolon at each end.
#[tokio::test]
async fn forty_german_customers_with_decimal_commas_are_not_cut_at_them() {
    let (api, _worker) = start().await;
    let row = |n: i32| format!("Käufer {n};kaeufer{n:02}@example.de;98{n:02},5{};\r\n", n % 10);
    let file = format!("Name;E-Mail;Umsatz, netto\r\n{}", (0..40).map(row).collect::<String>());
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 40 }));
    assert_eq!((&job["result"]["delimiter"], count(&job, "rows")), (&json!(";"), 40));
    let expected = json!({ "name": "Käufer 7", "custom_fields": { "Umsatz, netto": "9807,57" } });
    assert_has(&person(&api, CUSTOMERS, "kaeufer07@example.de").await, expected);
}

/// Case `delimiter-semicolon-decimal-comma`: the same, with too few rows for statistics.
#[tokio::test]
async fn two_german_customers_with_decimal_commas_are_not_cut_at_them() {
    let (api, _worker) = start().await;
    let file = "Name;E-Mail;Umsatz, netto\nHans;hans@example.de;99,50;\nGrete;grete@example.de;99,51;\n";
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 2 }));
    let expected = json!({ "name": "Grete", "custom_fields": { "Umsatz, netto": "99,51" } });
    assert_has(&person(&api, CUSTOMERS, "grete@example.de").await, expected);
}

/// Cases `sep-line` and `c05-excel-sep-line`.
#[tokio::test]
async fn a_first_line_that_names_the_delimiter_is_obeyed() {
    let (api, _worker) = start().await;
    for (n, (line, delimiter)) in [
        ("sep=;", ";"),
        ("sep=,", ","),
        ("sep=\t", "\t"),
        ("sep=|", "|"),
        ("SEP=;", ";"),
        ("Sep=,", ","),
        ("\u{feff}sep=;", ";"),
    ]
    .into_iter()
    .enumerate()
    {
        for end in ["\r\n", "\n"] {
            let email = format!("sep{n}.{}@example.com", end.len());
            let cells = [["Name", "Email", "Notes"], ["Ann Sep", email.as_str(), "a, b; c"]];
            let row = |cells: [&str; 3]| cells.map(|cell| format!("\"{cell}\"")).join(delimiter) + end;
            let file = format!("{line}{end}{}", cells.into_iter().map(row).collect::<String>());
            let job = import(&api, LEADS, "", file).await;
            assert_counts(&job, json!({ "created": 1 }));
            assert_has(&only(&api, LEADS, &job).await, json!({ "name": "Ann Sep", "notes": "a, b; c" }));
        }
    }
}

/// What is in the cells must not be taken for the delimiter.
#[tokio::test]
async fn the_delimiter_is_the_one_that_makes_fields_of_the_header() {
    let (api, _worker) = start().await;
    for (n, (file, delimiter)) in [
        ("Name;E-Mail;Firma\nAnn;{};A, B, C und D\n", ";"),
        ("Name,Email,Company\nAnn,{},\"A; B; C; D; E\"\n", ","),
        ("Name\tEmail\tCompany\nAnn\t{}\tA, B; C\n", "\t"),
        ("Name|Email|Company\nAnn|{}|A, B; C\n", "|"),
        ("Name;E-Mail;Preis, netto;Preis, brutto\nAnn;{};1,00;1,19\n", ";"),
        ("Name;E-Mail;Notiz\nAnn;{};\"Zeile, 1\nZeile, 2\nZeile, 3\"\n", ";"),
        ("Name,Email,Tags\nAnn,{},a|b|c|d|e|f\n", ","),
        ("Name,Email,Address;City;Zip;Country\nAnn,{},x;y;z;w\n", ","),
        ("Name;E-Mail;Telefon;\nAnn;{};030 1;\n", ";"),
        ("Nom;Courriel;CA (€, HT)\nAnn;{};1 234,50\n", ";"),
        ("\"Name\";\"E-Mail\";\"Umsatz, netto\"\n\"Ann\";\"{}\";\"1,5\"\n", ";"),
        ("名前,メールアドレス,備考\nAnn,{},\"a;b;c\"\n", ","),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("delimiter{n}@example.com");
        let job = import(&api, LEADS, "", file.replace("{}", &email)).await;
        assert_counts(&job, json!({ "created": 1 }));
        assert_eq!(job["result"]["delimiter"], delimiter, "{file}");
        assert_has(&only(&api, LEADS, &job).await, json!({ "name": "Ann", "email": email }));
    }
    // A delimiter that is given is not detected.
    let answer = refused(&api, LEADS, "delimiter=,", "Name;E-Mail\nAnn;ann@example.com\n").await;
    assert_eq!(answer["message"], "Invalid request parameters");
}

/// Case `title-rows`.
#[tokio::test]
async fn rows_before_the_header_are_skipped() {
    let (api, _worker) = start().await;
    let file = "Contacts of May 2024,,\r\n,,\r\nName,Email,Phone\r\nTia,tia@example.com,1\r\n";
    let job = import(&api, LEADS, "", file).await;
    assert_eq!((count(&job, "rows"), &job["result"]["header_row"]), (1, &json!(3)));
    assert_counts(&job, json!({ "created": 1 }));
    assert_has(&only(&api, LEADS, &job).await, json!({ "name": "Tia", "phone": "1" }));

    for (n, (title, header)) in [
        ("Kundenliste;;", "Name;E-Mail;Telefon"),
        ("Export vom 31.12.2025;;\n;;", "Name;E-Mail;Telefon"),
        ("\"Report: Leads by Owner\"\n\"As of 2024-05-01 10:00\"", "Name,Email,Phone"),
        ("Liste des prospects\t\t", "Nom\tCourriel\tTéléphone"),
        ("Acme Ltd,,\n\"1 Main St, Springfield\",,\n,,", "Name,Email,Phone"),
        ("営業リスト,,", "氏名,メールアドレス,電話番号"),
        ("Total leads: 1", "Name,Email,Phone"),
        ("a,b,c\nd,e,f\ng,h,i\nj,k,l\nm,n,o", "Name,Email,Phone"),
        ("Reporte;;\nFecha: 01/02/2024;;", "Nombre;Correo electrónico;Teléfono"),
        (
            "x,,\ny,,\nz,,\nx,,\ny,,\nz,,\nx,,\ny,,\nz,,\nx,,\ny,,\nz,,\nx,,\ny,,\nz,,\nx,,\ny,,\nz,,\nlast,,",
            "Name,Email,Phone",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let delimiter = if header.contains('\t') {
            "\t"
        } else if header.contains(';') {
            ";"
        } else {
            ","
        };
        let email = format!("title{n}@example.com");
        let row = ["Tim", email.as_str(), "+1 2"].join(delimiter);
        let job = import(&api, LEADS, "", format!("{title}\n{header}\n{row}\n")).await;
        assert_counts(&job, json!({ "created": 1 }));
        assert_has(&only(&api, LEADS, &job).await, json!({ "name": "Tim", "phone": "+1 2", "email": email }));
    }
}

#[tokio::test]
async fn the_header_row_can_be_given_and_may_be_absent() {
    let (api, _worker) = start().await;
    let file = "Name,Email,Phone\nName,Email,Fax\nFay,fay@example.com,7\n";
    let job = import(&api, LEADS, "header_row=2", file).await;
    assert_counts(&job, json!({ "created": 1 }));
    assert_has(
        &only(&api, LEADS, &job).await,
        json!({ "name": "Fay", "phone": null, "custom_fields": { "Fax": "7" } }),
    );

    let job =
        import(&api, LEADS, "header=false&columns=name,email,phone", "Gus,gus@example.com,8\nHal,hal@example.com,9\n")
            .await;
    assert_counts(&job, json!({ "created": 2 }));
    assert_has(&person(&api, LEADS, "gus@example.com").await, json!({ "name": "Gus", "phone": "8" }));

    // Only the first 20 rows can be the header.
    let late = format!("{}Name,Email\nIda,ida@example.com\n", "title,\n".repeat(20));
    refused(&api, LEADS, "", late).await;
}
