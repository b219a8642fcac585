//! Files in the encodings of many countries.

use serde_json::json;

use super::*;

const JAPANESE: &[u8] = b"\x8e\x81\x96\xbc,\x83\x81\x81[\x83\x8b\x83A\x83h\x83\x8c\x83X,\x93d\x98b\x94\xd4\x8d\x86,\
    \x89\xef\x8e\xd0\x96\xbc,\x83X\x83e\x81[\x83^\x83X\r\n\x97\xe9\x96\xd8 \x89\xd4\x8eq,suzuki@example.jp,03-5555-0131,\
    \x8a\x94\x8e\xae\x89\xef\x8e\xd0\x83\x5c\x83\x89,\x90V\x8bK\r\n";
const RUSSIAN: &[u8] = b"\xc8\xec\xff;\xd4\xe0\xec\xe8\xeb\xe8\xff;\xdd\xeb\xe5\xea\xf2\xf0\xee\xed\xed\xe0\xff \
    \xef\xee\xf7\xf2\xe0;\xd2\xe5\xeb\xe5\xf4\xee\xed;\xca\xee\xec\xef\xe0\xed\xe8\xff;\xd1\xf2\xe0\xf2\xf3\xf1\n\
    \xc0\xed\xed\xe0;\xc8\xe2\xe0\xed\xee\xe2\xe0;anna@example.ru;+7 495 555-01-31;\xce\xce\xce \xab\xcb\xe5\xf1\xbb;\
    \xcd\xee\xe2\xfb\xe9\n\xcf\xb8\xf2\xf0;\xd1\xec\xe8\xf0\xed\xee\xe2;petr@example.ru;;\xd0\xe5\xea\xe0;\
    \xc2\xfb\xe8\xe3\xf0\xe0\xed\n";
const CHINESE: &[u8] = b"\xd0\xd5\xc3\xfb,\xb5\xe7\xd7\xd3\xd3\xca\xcf\xe4,\xb5\xe7\xbb\xb0,\xb9\xab\xcb\xbe,\xd7\xb4\xcc\xac\n\
    \xc0\xee \xc0\xd7,lilei@example.cn,010-55550131,\xb1\xb1\xbe\xa9\xc9\xad\xc1\xd6\xd3\xd0\xcf\xde\xb9\xab\xcb\xbe,\xd0\xc2\xbd\xa8\n\
    \xba\xab \xc3\xb7\xc3\xb7,hanmei@example.cn,,\xc9\xcf\xba\xa3\xba\xd3\xc1\xf7\xd3\xd0\xcf\xde\xb9\xab\xcb\xbe,\xd2\xd1\xb3\xc9\xbd\xbb\n";
const TAIWANESE: &[u8] = b"\xa9m\xa6W,\xb9q\xa4l\xb6l\xa5\xf3,\xb9q\xb8\xdc,\xa4\xbd\xa5q,\xaa\xac\xbaA\n\
    \xb3\xaf \xa4j\xa4\xe5,chen@example.tw,02-55550131,\xa5x\xa5_\xb4\xcb\xaaL\xa6\xb3\xad\xad\xa4\xbd\xa5q,\xb7s\xbcW\n\
    \xaaL \xa4p\xac\xfc,lin@example.tw,,\xb0\xaa\xb6\xaf\xaae\xacy\xaa\xd1\xa5\xf7\xa6\xb3\xad\xad\xa4\xbd\xa5q,\xa6\xa8\xa5\xe6\n";
const KOREAN: &[u8] = b"\xc0\xcc\xb8\xa7,\xc0\xcc\xb8\xde\xc0\xcf,\xc0\xfc\xc8\xad\xb9\xf8\xc8\xa3,\xc8\xb8\xbb\xe7,\xbb\xf3\xc5\xc2\n\
    \xb1\xe8 \xb9\xce\xbc\xf6,kim@example.kr,02-5555-0131,\xbc\xad\xbf\xef\xbd\xa3 \xc1\xd6\xbd\xc4\xc8\xb8\xbb\xe7,\xbd\xc5\xb1\xd4\n\
    \xc0\xcc \xbf\xb5\xc8\xf1,lee@example.kr,,\xc7\xd1\xb0\xad \xc1\xd6\xbd\xc4\xc8\xb8\xbb\xe7,\xb0\xe8\xbe\xe0 \xbc\xba\xbb\xe7\n";
const POLISH: &[u8] = b"Imi\xea;Nazwisko;E-mail;Telefon;Firma;\x8fr\xf3d\xb3o\n\
    \xa3ucja;Wi\x9cniewska;lucja@example.pl;+48 22 555 01 31;\xaf\xf3\xb3w sp. z o.o.;Polecenie\n";

/// Case `ja-leads`.
#[tokio::test]
async fn a_japanese_file_in_shift_jis_is_read_without_options() {
    let (api, _worker) = start().await;
    let job = import(&api, LEADS, "", JAPANESE).await;
    assert_counts(&job, json!({ "created": 1 }));
    assert_eq!(job["result"]["encoding"], "shift_jis");
    let fields = ["name", "email", "phone", "company", "status"];
    let headers = ["氏名", "メールアドレス", "電話番号", "会社名", "ステータス"];
    assert_mapping(&job, &headers.into_iter().zip(fields).collect::<Vec<_>>());
    let expected = json!({ "name": "鈴木 花子", "phone": "03-5555-0131", "company": "株式会社ソラ", "status": "new",
        "custom_fields": { "ステータス": "新規" } });
    assert_has(&person(&api, LEADS, "suzuki@example.jp").await, expected);
}

/// Ten forms in which Excel and others save a file.
#[tokio::test]
async fn the_encoding_of_a_file_is_detected() {
    let (api, _worker) = start().await;
    let of = |name: &str, company: &str, status: &str| [name.to_owned(), company.to_owned(), status.to_owned()];
    let email = |n: u8| format!("zoe.{n}@example.fr");
    let text = |n: u8| {
        let email = email(n);
        format!("Prénom;Nom;Courriel;Société;Statut\nZoé;Lefèvre;{email};Crêperie Noël;Gagné\n")
    };
    let utf_16 = |n: u8, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text(n).encode_utf16()).flat_map(bytes).collect()
    };
    let french = |n: u8, file: Vec<u8>| (file, email(n), of("Zoé Lefèvre", "Crêperie Noël", "won"));
    for (file, email, [name, company, status]) in [
        french(1, text(1).into_bytes()),
        french(2, [b"\xef\xbb\xbf".as_slice(), text(2).as_bytes()].concat()),
        french(3, utf_16(3, u16::to_le_bytes)),
        french(4, utf_16(4, u16::to_be_bytes)),
        french(5, latin_1(&text(5))),
        (RUSSIAN.to_vec(), "petr@example.ru".to_owned(), of("Пётр Смирнов", "Река", "won")),
        (CHINESE.to_vec(), "hanmei@example.cn".to_owned(), of("韩 梅梅", "上海河流有限公司", "won")),
        (TAIWANESE.to_vec(), "lin@example.tw".to_owned(), of("林 小美", "高雄河流股份有限公司", "won")),
        (KOREAN.to_vec(), "lee@example.kr".to_owned(), of("이 영희", "한강 주식회사", "won")),
        (JAPANESE.to_vec(), "suzuki@example.jp".to_owned(), of("鈴木 花子", "株式会社ソラ", "new")),
    ] {
        let job = import(&api, LEADS, "", file).await;
        assert_eq!(count(&job, "failed"), 0, "{job}");
        let expected = json!({ "name": name, "company": company, "status": status });
        assert_has(&person(&api, LEADS, &email).await, expected);
    }
}

#[tokio::test]
async fn an_encoding_can_be_given() {
    let (api, _worker) = start().await;
    for (encoding, file, email, expected) in [
        (
            "windows-1250",
            POLISH,
            "lucja@example.pl",
            json!({ "name": "Łucja Wiśniewska", "company": "Żółw sp. z o.o.", "source": "referral" }),
        ),
        (
            "windows-1251",
            RUSSIAN,
            "anna@example.ru",
            json!({ "name": "Анна Иванова", "company": "ООО «Лес»", "status": "new" }),
        ),
        ("shift_jis", JAPANESE, "suzuki@example.jp", json!({ "name": "鈴木 花子" })),
        ("gbk", CHINESE, "lilei@example.cn", json!({ "name": "李 雷", "company": "北京森林有限公司" })),
        ("big5", TAIWANESE, "chen@example.tw", json!({ "name": "陳 大文", "company": "台北森林有限公司" })),
        ("euc-kr", KOREAN, "kim@example.kr", json!({ "name": "김 민수", "company": "서울숲 주식회사" })),
    ] {
        let job = import(&api, LEADS, &format!("encoding={encoding}"), file).await;
        assert_eq!(count(&job, "failed"), 0, "{encoding}: {job}");
        assert_has(&person(&api, LEADS, email).await, expected);
    }
}

#[tokio::test]
async fn bytes_that_are_invalid_in_the_given_encoding_reject_their_row() {
    let (api, _worker) = start().await;
    let file = b"Name,Email,City\nAl,al@example.com,K\xf6ln\nBo,bo@example.com,Bonn\n";
    let job = import(&api, LEADS, "encoding=utf-8", file.as_slice()).await;
    assert_counts(&job, json!({ "created": 1, "failed": 1 }));
    assert_eq!(remarks(&api, &job).await, ["2 failed encoding"]);
}
