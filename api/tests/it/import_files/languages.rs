//! Files whose headers and values are in the languages of their users.

use serde_json::{Value, json};

use super::*;

/// Case `es-clientes`.
#[tokio::test]
async fn a_spanish_file_of_customers_in_latin_1_is_imported() {
    let (api, _worker) = start().await;
    let file = "Nombre;Apellidos;Correo electrónico;Teléfono;Empresa;Límite de crédito;Dirección de facturación\r\n\
                Íñigo;Peña Güell;inigo@example.es;+34 912 555 131;Muñoz S.A.;2.500,50;Calle Nueva 2\r\n";
    let job = import(&api, CUSTOMERS, "", latin_1(file)).await;
    assert_counts(&job, json!({ "created": 1 }));
    assert_eq!((&job["result"]["encoding"], &job["result"]["delimiter"]), (&json!("windows-1252"), &json!(";")));
    let expected = json!({ "name": "Íñigo Peña Güell", "first_name": "Íñigo", "last_name": "Peña Güell",
        "email": "inigo@example.es", "phone": "+34 912 555 131", "company": "Muñoz S.A.", "credit_limit": 2500.5,
        "billing_address": "Calle Nueva 2", "custom_fields": {} });
    assert_has(&only(&api, CUSTOMERS, &job).await, expected);
}

/// Case `excel-de-leads`: Excel wrote a quote in a cell, a row of sums and rows of nothing.
#[tokio::test]
async fn a_german_file_of_leads_from_excel_is_imported() {
    let (api, _worker) = start().await;
    let file = "Name;E-Mail;Telefon;Firma;Quelle;Status;Punkte;Letzter Kontakt;Bemerkung\r\n\
                Jörg Höß;joerg@example.de;030 / 555 01-31;Höß & Söhne;Messe;Neu;75,5;31.12.2025;Größe: 5 \"Zoll\"\r\n\
                Änne Kuß;aenne@example.de;+49 171 5550131;;Empfehlung;Gewonnen;80;1.2.2026;\r\n\
                Summe;;;;;;155,5;;\r\n;;;;;;;;\r\n;;;;;;;;\r\n";
    let job = import(&api, LEADS, "", latin_1(file)).await;
    // The warning is for the quotes.
    assert_counts(&job, json!({ "created": 2, "skipped": 1, "warnings": 1 }));
    assert!(remarks(&api, &job).await.contains(&"4 skipped trailing".to_owned()));
    let joerg = json!({ "name": "Jörg Höß", "phone": "030 / 555 01-31", "company": "Höß & Söhne", "source": "campaign",
        "status": "new", "score": 75.5, "last_contact": "2025-12-31T00:00:00Z", "notes": "Größe: 5 \"Zoll\"",
        "custom_fields": { "Quelle": "Messe", "Status": "Neu" } });
    assert_has(&person(&api, LEADS, "joerg@example.de").await, joerg);
    let aenne = json!({ "source": "referral", "status": "won", "score": 80, "last_contact": "2026-02-01T00:00:00Z" });
    assert_has(&person(&api, LEADS, "aenne@example.de").await, aenne);
}

/// Case `fr-prospects`: beside a first name, `Nom` is the last name.
#[tokio::test]
async fn a_french_file_of_prospects_is_imported() {
    let (api, _worker) = start().await;
    let file = "Prénom;Nom;Courriel;Téléphone;Société;Origine;Statut;Dernier contact\r\n\
                Hélène;Béranger;helene@example.fr;01 55 55 01 31;Pâtisserie Noé;Salon;Gagné;31/12/2025\r\n";
    let job = import(&api, LEADS, "", latin_1(file)).await;
    assert_counts(&job, json!({ "created": 1 }));
    let expected = json!({ "name": "Hélène Béranger", "first_name": "Hélène", "last_name": "Béranger",
        "company": "Pâtisserie Noé", "source": "campaign", "status": "won", "last_contact": "2025-12-31T00:00:00Z",
        "custom_fields": { "Origine": "Salon", "Statut": "Gagné" } });
    assert_has(&only(&api, LEADS, &job).await, expected);
}

/// The same person in every language of the alias tables.
#[tokio::test]
async fn a_lead_is_read_in_twenty_languages() {
    let (api, _worker) = start().await;
    for (language, file) in [
        (
            "English",
            "First name;Last name;Email address;Phone;Company;Status;Last contact\nA;B;en@example.com;+1;C;Won;",
        ),
        (
            "German",
            "Vorname;Nachname;E-Mail-Adresse;Telefonnummer;Unternehmen;Status;Letzter Kontakt\nA;B;de@example.com;+1;C;Gewonnen;",
        ),
        (
            "French",
            "Prénom;Nom de famille;Adresse e-mail;Téléphone;Entreprise;Statut;Dernier contact\nA;B;fr@example.com;+1;C;Gagné;",
        ),
        (
            "Spanish",
            "Nombre;Apellidos;Correo electrónico;Teléfono;Empresa;Estado;Último contacto\nA;B;es@example.com;+1;C;Ganado;",
        ),
        ("Portuguese", "Nome;Sobrenome;E-mail;Telefone;Empresa;Status;Último contato\nA;B;pt@example.com;+1;C;Ganho;"),
        (
            "Italian",
            "Nome;Cognome;Indirizzo e-mail;Telefono;Azienda;Stato;Ultimo contatto\nA;B;it@example.com;+1;C;Vinto;",
        ),
        (
            "Dutch",
            "Voornaam;Achternaam;E-mailadres;Telefoonnummer;Bedrijf;Status;Laatste contact\nA;B;nl@example.com;+1;C;Gewonnen;",
        ),
        ("Polish", "Imię;Nazwisko;Adres e-mail;Telefon;Firma;Status;Ostatni kontakt\nA;B;pl@example.com;+1;C;Wygrany;"),
        ("Czech", "Jméno;Příjmení;E-mail;Telefon;Firma;Stav;Poslední kontakt\nA;B;cs@example.com;+1;C;Vyhráno;"),
        (
            "Swedish",
            "Förnamn;Efternamn;E-postadress;Telefon;Företag;Status;Senaste kontakt\nA;B;sv@example.com;+1;C;Vunnen;",
        ),
        (
            "Danish",
            "Fornavn;Efternavn;E-mailadresse;Telefon;Virksomhed;Status;Seneste kontakt\nA;B;da@example.com;+1;C;Vundet;",
        ),
        (
            "Norwegian",
            "Fornavn;Etternavn;E-postadresse;Telefon;Bedrift;Status;Siste kontakt\nA;B;no@example.com;+1;C;Vunnet;",
        ),
        (
            "Finnish",
            "Etunimi;Sukunimi;Sähköposti;Puhelin;Yritys;Tila;Viimeisin yhteydenotto\nA;B;fi@example.com;+1;C;Voitettu;",
        ),
        ("Turkish", "Ad;Soyad;E-posta;Telefon;Şirket;Durum;Son iletişim\nA;B;tr@example.com;+1;C;Kazanıldı;"),
        (
            "Russian",
            "Имя;Фамилия;Электронная почта;Телефон;Компания;Статус;Последний контакт\nA;B;ru@example.com;+1;C;Выигран;",
        ),
        (
            "Ukrainian",
            "Ім'я;Прізвище;Електронна пошта;Телефон;Компанія;Статус;Останній контакт\nA;B;uk@example.com;+1;C;Виграно;",
        ),
        ("Japanese", "名;姓;メールアドレス;電話番号;会社名;ステータス;最終連絡日\nA;B;ja@example.com;+1;C;受注;"),
        ("Korean", "이름;성;이메일;전화번호;회사명;상태;마지막 연락일\nA;B;ko@example.com;+1;C;수주;"),
        ("Simplified Chinese", "名;姓;电子邮箱;电话;公司;状态;最后联系时间\nA;B;zh@example.com;+1;C;已成交;"),
        ("Traditional Chinese", "名;姓;電子郵件;電話;公司;狀態;最後聯絡時間\nA;B;tw@example.com;+1;C;成交;"),
        ("no accents", "Prenom;Nom;Courriel;Telephone;Societe;Statut;Dernier contact\nA;B;xx@example.com;+1;C;Gagne;"),
    ] {
        let job = import(&api, LEADS, "", format!("{file}2025-12-31\n")).await;
        assert_eq!((count(&job, "created"), count(&job, "warnings")), (1, 0), "{language}: {job}");
        let record = only(&api, LEADS, &job).await;
        let fields = ["first_name", "last_name", "phone", "company", "status", "last_contact"];
        let read = fields.map(|field| record[field].clone());
        assert_eq!(json!(read), json!(["A", "B", "+1", "C", "won", "2025-12-31T00:00:00Z"]), "{language}: {record}");
    }
}

/// Words that mean the whole name, unless the other part has a column of its own.
#[tokio::test]
async fn a_word_for_a_name_means_what_its_neighbours_leave_over() {
    let (api, _worker) = start().await;
    for (file, expected) in [
        ("Nom;Courriel\nZoé Roy;n1@example.fr\n", json!(["Zoé Roy", null, null])),
        ("Prénom;Nom;Courriel\nZoé;Roy;n2@example.fr\n", json!(["Zoé Roy", "Zoé", "Roy"])),
        ("Nombre;Correo electrónico\nAna Ruiz;n3@example.es\n", json!(["Ana Ruiz", null, null])),
        ("Nombre;Apellidos;Correo electrónico\nAna;Ruiz;n4@example.es\n", json!(["Ana Ruiz", "Ana", "Ruiz"])),
        ("Nome;Email\nUgo Neri;n5@example.it\n", json!(["Ugo Neri", null, null])),
        ("Nome;Cognome;Email\nUgo;Neri;n6@example.it\n", json!(["Ugo Neri", "Ugo", "Neri"])),
        ("Naam;E-mailadres\nPiet Bos;n7@example.nl\n", json!(["Piet Bos", null, null])),
        ("Voornaam;Naam;E-mailadres\nPiet;Bos;n8@example.nl\n", json!(["Piet Bos", "Piet", "Bos"])),
        ("Name;E-Mail\nUwe Kern;n9@example.de\n", json!(["Uwe Kern", null, null])),
        ("Vorname;Name;E-Mail\nUwe;Kern;n10@example.de\n", json!(["Uwe Kern", "Uwe", "Kern"])),
    ] {
        let job = import(&api, LEADS, "", file).await;
        let record: Value = only(&api, LEADS, &job).await;
        let names = ["name", "first_name", "last_name"].map(|field| record[field].clone());
        assert_eq!(json!(names), expected, "{file}");
    }
}

#[tokio::test]
async fn a_name_in_two_parts_of_east_asian_letters_has_the_family_name_first() {
    let (api, _worker) = start().await;
    for (file, first, last) in [
        ("姓,名,メールアドレス\n鈴木,花子,e1@example.jp\n", "花子", "鈴木"),
        ("名,姓,メールアドレス\n一郎,田中,e2@example.jp\n", "一郎", "田中"),
        ("First Name,Last Name,Email\nさくら,森,e3@example.jp\n", "さくら", "森"),
        ("First Name,Last Name,Email\nハルカ,タナカ,e4@example.jp\n", "ハルカ", "タナカ"),
        ("姓,名,电子邮箱\n韩,梅梅,e5@example.cn\n", "梅梅", "韩"),
        ("First Name,Last Name,Email\n大文,陳,e6@example.tw\n", "大文", "陳"),
        ("성,이름,이메일\n김,민수,e7@example.kr\n", "민수", "김"),
        ("First Name,Last Name,Email\n영희,이,e8@example.kr\n", "영희", "이"),
    ] {
        let job = import(&api, LEADS, "", file).await;
        let record = only(&api, LEADS, &job).await;
        assert_has(&record, json!({ "first_name": first, "last_name": last }));
        // The contract leaves open whether a space stands between them.
        assert_eq!(record["name"].as_str().unwrap().replace(' ', ""), format!("{last}{first}"), "{file}");
    }
    let latin = import(&api, LEADS, "", "姓,名,メールアドレス\nMori,Ken,e9@example.jp\n").await;
    assert_eq!(only(&api, LEADS, &latin).await["name"], "Ken Mori");
}
