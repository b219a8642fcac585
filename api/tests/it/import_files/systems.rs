//! Exports of HubSpot, Mailchimp, Shopify, WooCommerce, Google Contacts and Outlook.

use serde_json::{Value, json};

use super::*;

/// Case `hs-contacts`.
#[tokio::test]
async fn contacts_of_hubspot_are_imported_without_options() {
    let (api, _worker) = start().await;
    let kim = user(&api, "Kim Ross", "kim@example.com").await;
    let file = concat!(
        "Record ID,First Name,Last Name,Email,Phone Number,Mobile Phone Number,Contact owner,Lead Status,",
        "Lifecycle Stage,Marketing contact status,Create Date,Last Activity Date,Last Contacted,Original Source,",
        "Associated Company,Company Name,HubSpot Score,Unsubscribed from all email,Email Hard Bounce Reason\r\n",
        "71,Ina,Berg,ina@example.com,+1 415 555 0131,+1 415 555 0139,Kim Ross (kim@example.com),In Progress,Lead,",
        "Marketing contact,2024-03-05 09:14,2024-06-03 10:00,2024-06-01 11:00,Organic Search,Bergwerk (9),Bergwerk,42,,\r\n",
        "72,Olaf,Dorn,olaf@example.com,,+1 415 555 0132,,Open Deal,Opportunity,Marketing contact,2023-11-20 17:40,",
        "2024-05-12 08:30,,Paid Search,,Dorn GmbH,71,true,\r\n",
        "73,Pam,Ott,PAM.OTT@EXAMPLE.COM ,\"(415) 555-0133 ext. 9\",,,Unqualified,Customer,Non-marketing contact,",
        "2022-01-02 00:05,,,Offline Sources,,,,,\r\n",
        "74,Quentin,Ur,quentin@example.com,,,,,Customer,,2022-01-02 00:05,,,Email Marketing,,,,,Unknown user\r\n",
        "75,,,nameless@example.com,,,,,Subscriber,,2022-01-02 00:05,,,Direct Traffic,,,,,\r\n",
        "76,Rita,Yo,,,,,New,Lead,,2024-01-02 00:05,,,Direct Traffic,,,,,\r\n",
    );
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 5, "failed": 1, "suppressed": 3 }));
    assert_mapping(
        &job,
        &[
            ("Record ID", "external_id"),
            ("Phone Number", "phone"),
            // A column that steps in for another names the same field.
            ("Mobile Phone Number", "phone"),
            ("Lifecycle Stage", "status"),
            ("Last Activity Date", "last_contact"),
            ("Associated Company", "company"),
            ("Unsubscribed from all email", "suppression"),
            ("Marketing contact status", "suppression"),
            ("Email Hard Bounce Reason", "suppression"),
        ],
    );
    assert_eq!(suppressed(&api).await, ["olaf@example.com", "PAM.OTT@EXAMPLE.COM", "quentin@example.com"]);

    let ina = person(&api, LEADS, "ina@example.com").await;
    let custom = json!({
        "Mobile Phone Number": "+1 415 555 0139", "Lead Status": "In Progress", "Lifecycle Stage": "Lead",
        "Original Source": "Organic Search", "Associated Company": "Bergwerk (9)", "Contact owner": null,
        "Last Activity Date": "2024-06-03 10:00",
    });
    let expected = json!({
        "name": "Ina Berg", "first_name": "Ina", "last_name": "Berg", "external_id": "71", "company": "Bergwerk",
        "phone": "+1 415 555 0131", "status": "contacted", "source": "website", "score": 42, "assigned_to": kim,
        "created_at": "2024-03-05T09:14:00Z", "last_contact": "2024-06-01T11:00:00Z", "custom_fields": custom,
    });
    assert_has(&ina, expected);
    let olaf = json!({ "phone": "+1 415 555 0132", "last_contact": "2024-05-12T08:30:00Z", "status": "qualified",
        "source": "campaign", "custom_fields": { "Lifecycle Stage": "Opportunity", "Lead Status": "Open Deal" } });
    assert_has(&person(&api, LEADS, "olaf@example.com").await, olaf);
    let pam = json!({ "email": "PAM.OTT@EXAMPLE.COM", "phone": "(415) 555-0133 ext. 9", "status": "lost",
        "source": "other", "custom_fields": { "Lead Status": "Unqualified", "Lifecycle Stage": "Customer" } });
    assert_has(&person(&api, LEADS, "pam.ott@example.com").await, pam);
    let quentin = json!({ "status": "won", "source": "email", "custom_fields": { "Lifecycle Stage": "Customer" } });
    assert_has(&person(&api, LEADS, "quentin@example.com").await, quentin);
    let nameless = json!({ "name": "nameless", "status": "new", "source": "direct", "last_contact": null });
    assert_has(&person(&api, LEADS, "nameless@example.com").await, nameless);
    let rejected = reported(&api, &job, "failed").await;
    assert_eq!((&rejected[0]["line"], &rejected[0]["field"]), (&json!(7), &json!("email")));
}

/// Case `c01-hubspot-last-contacted`.
#[tokio::test]
async fn times_of_hubspot_become_the_last_contact_and_the_creation() {
    let (api, _worker) = start().await;
    let file = "Record ID,First Name,Last Name,Email,Lead Status,Last Contacted,Create Date,Unsubscribed from all email\r\n\
                201,Abe,Low,abe@example.com,In Progress,2024-01-15 10:30,2023-11-02 09:12,true\r\n\
                202,Bea,Moon,bea@example.com,New,2024-02-01 08:05,2023-12-24 18:00,\r\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2, "suppressed": 1 }));
    assert_eq!(suppressed(&api).await, ["abe@example.com"]);
    let expected = json!({
        "external_id": "201", "status": "contacted", "last_contact": "2024-01-15T10:30:00Z",
        "created_at": "2023-11-02T09:12:00Z",
        "custom_fields": { "Lead Status": "In Progress" },
    });
    assert_has(&person(&api, LEADS, "abe@example.com").await, expected);
    // The text is the stored value itself, so it is not kept beside it.
    let bea = json!({ "status": "new", "custom_fields": { "Lead Status": null } });
    assert_has(&person(&api, LEADS, "bea@example.com").await, bea);
}

/// Cases `mailchimp-audience` and `c03-mailchimp-unsubscribed`.
#[tokio::test]
async fn members_of_mailchimp_are_people_and_those_who_left_get_no_email() {
    let (api, _worker) = start().await;
    let head = "\"Email Address\",\"First Name\",\"Last Name\",Address,\"Phone Number\",MEMBER_RATING,OPTIN_TIME,\
                CONFIRM_TIME,LAST_CHANGED,LEID,EUID,NOTES,TAGS";
    let members = "may@example.com,May,Field,\"2 Low St, York YO1 7HH GB\",07700900131,4,\"2023-04-05 06:07:08\",\
                   \"2023-04-06 00:00:00\",\"2023-04-05 06:07:08\",398,a1,met in York,\"\"\"VIP\"\",\"\"Blog\"\"\"\n\
                   just.mail@example.com,,,,,2,\"2023-04-05 06:07:08\",,\"2023-04-05 06:07:08\",399,a2,,\n";
    let job = import(&api, LEADS, "", format!("{head}\n{members}")).await;
    assert_counts(&job, json!({ "created": 2 }));
    let custom = json!({ "TAGS": "\"VIP\",\"Blog\"", "MEMBER_RATING": "4", "CONFIRM_TIME": "2023-04-06 00:00:00",
        "Address": "2 Low St, York YO1 7HH GB" });
    let may = json!({ "name": "May Field", "phone": "07700900131", "score": 0, "notes": "met in York",
        "created_at": "2023-04-05T06:07:08Z", "custom_fields": custom });
    assert_has(&person(&api, LEADS, "may@example.com").await, may);
    assert_eq!(person(&api, LEADS, "just.mail@example.com").await["name"], "just.mail");

    let left = "\"Email Address\",\"First Name\",\"Last Name\",OPTIN_TIME,UNSUB_TIME,UNSUB_REASON,TAGS\r\n\
                \"ute@example.com\",Ute,Sand,\"2020-02-03 04:05:06\",\"2021-05-06 07:08:09\",\"No longer interested\",\"\"\"VIP\"\"\"\r\n";
    let cleaned = "Email Address,First Name,Last Name,CLEAN_TIME,CLEAN_CAMPAIGN_TITLE\n\
                   clea@example.com,Clea,Ned,2022-05-06 07:08:09,Spring\n";
    for (file, address) in [(left, "ute@example.com"), (cleaned, "clea@example.com")] {
        let job = import(&api, LEADS, "", file).await;
        assert_counts(&job, json!({ "created": 1, "suppressed": 1 }));
        assert!(suppressed(&api).await.contains(&address.to_owned()), "{address}");
    }
    let ute =
        json!({ "created_at": "2020-02-03T04:05:06Z", "custom_fields": { "UNSUB_REASON": "No longer interested" } });
    assert_has(&person(&api, LEADS, "ute@example.com").await, ute);
}

/// Case `shopify-customers`.
#[tokio::test]
async fn customers_of_shopify_who_accept_no_marketing_are_suppressed() {
    let (api, _worker) = start().await;
    let file = "Customer ID,First Name,Last Name,Email,Accepts Email Marketing,Default Address Company,\
                Default Address Phone,Phone,Accepts SMS Marketing,Total Spent,Total Orders,Note,Tags\r\n\
                '7543210987654,Jo,Kern,jo@example.ca,no,Kern Co,'+14165550131,'+14165550132,no,240.50,3,VIP note,\"vip, shop\"\r\n\
                '7543210987655,Kit,,kit@example.ca,yes,,,,no,0.00,0,,\r\n\
                '7543210987656,Lu,Ma,lu@example.ca,,,,,no,0.00,0,,\r\n";
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 3, "suppressed": 1 }));
    assert_eq!(suppressed(&api).await, ["jo@example.ca"], "an answer about text messages says nothing of email");
    let jo = person(&api, CUSTOMERS, "jo@example.ca").await;
    let custom = json!({ "Total Spent": "240.50", "Total Orders": "3", "Tags": "vip, shop" });
    let expected = json!({ "name": "Jo Kern", "phone": "+14165550132", "company": "Kern Co", "notes": "VIP note",
        "type": "individual", "status": "active", "custom_fields": custom });
    assert_has(&jo, expected);
    // The contract leaves open whether the apostrophe of Shopify before a number is removed.
    assert!(jo["external_id"].as_str().unwrap().ends_with("7543210987654"), "{jo}");
    assert_eq!(person(&api, CUSTOMERS, "kit@example.ca").await["name"], "Kit");
}

/// Case `woocommerce-orders`, whose lines have the customers as well.
#[tokio::test]
async fn orders_of_woocommerce_name_each_customer_once() {
    let (api, _worker) = start().await;
    let file = "order_id,order_number,order_date,order_total,order_currency,billing_first_name,billing_last_name,\
                billing_company,billing_email,billing_phone,billing_city,customer_note,line_item_1\n\
                301,301,2024-05-01 10:11:12,54.80,EUR,Lea,Marx,Marx KG,lea@example.de,+49 40 5550131,Kiel,,name:Tea|quantity:2\n\
                302,302,2024-06-01 10:11:12,54.80,EUR,Lea,Marx,Marx KG,lea@example.de,+49 40 5550131,Kiel,,name:Tea|quantity:2\n";
    let job = import(&api, CUSTOMERS, "", file).await;
    assert_counts(&job, json!({ "created": 1, "skipped": 1 }));
    assert_mapping(&job, &[("billing_email", "email"), ("billing_phone", "phone"), ("billing_company", "company")]);
    let expected = json!({ "name": "Lea Marx", "company": "Marx KG", "phone": "+49 40 5550131",
        "external_id": null, "custom_fields": { "order_id": "301", "billing_city": "Kiel" } });
    assert_has(&only(&api, CUSTOMERS, &job).await, expected);
}

/// Case `google-contacts-new`.
#[tokio::test]
async fn contacts_of_google_have_several_addresses_and_lines_in_cells() {
    let (api, _worker) = start().await;
    let file = "First Name,Middle Name,Last Name,Name Prefix,Nickname,File As,Organization Name,Organization Title,\
                Birthday,Notes,Labels,E-mail 1 - Label,E-mail 1 - Value,E-mail 2 - Label,E-mail 2 - Value,\
                Phone 1 - Label,Phone 1 - Value,Address 1 - Formatted,Address 1 - City\r\n\
                Ben,Q,Cohn,Dr.,,,Cohn Labs,Head,1980-02-03,met at fair,* myContacts,* Work,\
                ben@example.com ::: ben2@example.com,Home,benh@example.com,Mobile,+1 202-555-0131,\"1 Main St\r\nDover\",Dover\r\n\
                ,,,,,,Lone Org,,,,* myContacts,* Work,lone@example.com,,,,,,\r\n";
    let job = import(&api, LEADS, "", file).await;
    assert_counts(&job, json!({ "created": 2 }));
    let ben = person(&api, LEADS, "ben@example.com").await;
    let expected = json!({ "first_name": "Ben", "last_name": "Cohn", "company": "Cohn Labs", "notes": "met at fair",
        "phone": "+1 202-555-0131", "custom_fields": { "Organization Title": "Head", "Birthday": "1980-02-03" } });
    assert_has(&ben, expected);
    let others = other_emails(&ben);
    assert!(others.contains("ben2@example.com") && others.contains("benh@example.com"), "{ben}");
    let lone = json!({ "name": "Lone Org", "company": "Lone Org" });
    assert_has(&person(&api, LEADS, "lone@example.com").await, lone);
}

/// One person of each of ten further exports.
#[tokio::test]
async fn a_person_of_each_system_is_read() {
    let (api, _worker) = start().await;
    for (system, list, file, expected) in [
        (
            "Outlook",
            LEADS,
            "\"First Name\",\"Middle Name\",\"Last Name\",\"Company\",\"Job Title\",\"Business Phone\",\"Home Phone\",\"Mobile Phone\",\"E-mail Address\",\"E-mail 2 Address\",\"Notes\"\r\n\"Al\",\"\",\"Bo\",\"Bo Ltd\",\"CEO\",\"\",\"\",\"+44 2\",\"al@example.com\",\"\",\"old friend\"\r\n",
            json!({ "name": "Al Bo", "phone": "+44 2", "email": "al@example.com", "company": "Bo Ltd", "notes": "old friend" }),
        ),
        (
            "Google Contacts of old",
            LEADS,
            "Name,Given Name,Family Name,Organization 1 - Name,E-mail 1 - Type,E-mail 1 - Value,Phone 1 - Type,Phone 1 - Value\nCy Dee,Cy,Dee,Dee SA,* Work,cy@example.com,Mobile,+33 1\n",
            json!({ "name": "Cy Dee", "first_name": "Cy", "last_name": "Dee", "company": "Dee SA", "phone": "+33 1" }),
        ),
        (
            "Zoho",
            LEADS,
            "Record Id,First Name,Last Name,Company,Email,Phone,Mobile,Lead Source,Lead Status,Email Opt Out,Created Time\nzcrm_41,Ed,Fay,Fay Inc,ed@example.com,,+1 5,Cold Call,Attempted to Contact,false,2024-02-03 04:05:06\n",
            json!({ "external_id": "zcrm_41", "phone": "+1 5", "source": "direct", "status": "contacted", "created_at": "2024-02-03T04:05:06Z" }),
        ),
        (
            "Salesforce's data loader",
            LEADS,
            "ID,FIRSTNAME,LASTNAME,COMPANY,EMAIL,PHONE,LEADSOURCE,STATUS,CREATEDDATE\n\"00Q41\",\"Gil\",\"Hay\",\"Hay AG\",\"gil@example.com\",\"+49 1\",\"Web\",\"Open - Not Contacted\",\"2024-03-04T05:06:07.000Z\"\n",
            json!({ "name": "Gil Hay", "external_id": "00Q41", "source": "website", "status": "new", "created_at": "2024-03-04T05:06:07Z" }),
        ),
        (
            "Pipedrive's leads",
            LEADS,
            "Lead - ID,Lead - Title,Lead - Contact person,Lead - Organization,Person - Email,Person - Phone\n7,Big deal,Ida Joy,Joy Oy,ida@example.com,+358 1\n",
            json!({ "name": "Ida Joy", "company": "Joy Oy", "phone": "+358 1" }),
        ),
        (
            "Odoo's contacts",
            CUSTOMERS,
            "id,name,email,phone,mobile,vat,company_type\n__export__.res_partner_7,Kay Lim,kay@example.com,+65 1,+65 2,SG123,Individual\n",
            json!({ "name": "Kay Lim", "external_id": "__export__.res_partner_7", "phone": "+65 1", "tax_id": "SG123", "type": "individual" }),
        ),
        (
            "Mailchimp's segments",
            LEADS,
            "Email Address,First Name,Last Name,Company,MEMBER_RATING,OPTIN_TIME\nmo@example.com,Mo,Noy,Noy BV,3,2022-01-02 03:04:05\n",
            json!({ "name": "Mo Noy", "company": "Noy BV", "score": 0, "created_at": "2022-01-02T03:04:05Z" }),
        ),
        (
            "Shopify of old",
            CUSTOMERS,
            "First Name,Last Name,Email,Company,Phone,Accepts Marketing,Total Spent,Note\nOz,Poe,oz@example.com,Poe Co,+1 7,yes,12.00,gift\n",
            json!({ "name": "Oz Poe", "company": "Poe Co", "phone": "+1 7", "notes": "gift" }),
        ),
        (
            "WooCommerce's users",
            CUSTOMERS,
            "ID,user_email,user_registered,first_name,last_name,billing_company,billing_phone\n9,qi@example.com,2023-03-04 05:06:07,Qi,Roe,Roe Ltd,+44 9\n",
            json!({ "name": "Qi Roe", "external_id": "9", "company": "Roe Ltd", "phone": "+44 9", "created_at": "2023-03-04T05:06:07Z" }),
        ),
        (
            "HubSpot's internal names",
            LEADS,
            "hs_object_id,firstname,lastname,email,phone,company,hs_lead_status,hs_email_optout\n11,Si,Tan,si@example.com,+65 9,Tan Pte,NEW,false\n",
            json!({ "name": "Si Tan", "external_id": "11", "company": "Tan Pte", "status": "new" }),
        ),
    ] {
        let job = import(&api, list, "", file).await;
        assert_counts(&job, json!({ "created": 1 }));
        let record: Value = only(&api, list, &job).await;
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&record[field], value, "{field} of {system}: {record}");
        }
    }
    assert!(suppressed(&api).await.is_empty());
}
