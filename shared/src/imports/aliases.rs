//! The names of fields and values in the exports of other systems, as
//! [normalized](super::columns::normalize) text.

use super::columns::Column;

const fn plain(name: &'static str, aliases: &'static [&'static str]) -> Column {
    Column { name, aliases, exact: false, required: false, parts: &[], words: &[] }
}

/// A field whose name may mean something else in other systems, so its header must match exactly.
const fn exact(name: &'static str) -> Column {
    Column { name, aliases: &[], exact: true, required: false, parts: &[], words: &[] }
}

const NAME: Column =
    plain("name", &["fullname", "contactname", "leadname", "personname", "contact", "person", "displayname"])
        .required()
        .made_of(&["first_name", "last_name"]);

const FIRST_NAME: Column = plain("first_name", &["givenname", "forename", "first", "contactfirstname"]);

const LAST_NAME: Column = plain("last_name", &["surname", "familyname", "last", "contactlastname"]);

const EMAIL: Column = plain(
    "email",
    &[
        "emailaddress",
        "email1",
        "primaryemail",
        "workemail",
        "emailwork",
        "personemail",
        "personemailwork",
        "email1value",
        "contactemail",
        "mail",
    ],
)
.required();

const PHONE: Column = plain(
    "phone",
    &[
        "phonenumber",
        "phone1",
        "primaryphone",
        "workphone",
        "businessphone",
        "phonework",
        "personphone",
        "personphonework",
        "telephone",
        "tel",
        "mobile",
        "mobilephone",
        "mobilephonenumber",
        "cellphone",
        "phone1value",
        "contactphone",
    ],
);

const COMPANY: Column = plain(
    "company",
    &[
        "companyname",
        "account",
        "accountname",
        "organization",
        "organisation",
        "organizationname",
        "organisationname",
        "personorganization",
        "associatedcompany",
        "employer",
        "business",
    ],
);

/// The fields of a lead.
pub const LEAD_COLUMNS: &[Column] = &[
    NAME,
    FIRST_NAME,
    LAST_NAME,
    EMAIL,
    PHONE,
    COMPANY,
    Column {
        name: "source",
        aliases: &["leadsource", "originalsource", "originalsourcetype", "trafficsource", "sourcechannel", "channel"],
        exact: false,
        required: false,
        parts: &[],
        words: LEAD_SOURCES,
    },
    Column {
        name: "status",
        aliases: &[
            "leadstatus",
            "leadstage",
            "dealstage",
            "stage",
            "pipelinestage",
            "lifecyclestage",
            "opportunitystage",
        ],
        exact: false,
        required: false,
        parts: &[],
        words: LEAD_STATUSES,
    },
    plain("score", &["leadscore", "hubspotscore"]),
    plain("notes", &["note", "description", "comments", "comment", "message"]),
    plain("last_contact", &["lastcontacted", "lastcontactdate", "lastcontactedat"]),
    exact("external_id"),
    exact("campaign_id"),
    exact("assigned_to"),
    exact("customer_id"),
    exact("custom_fields"),
    exact("contacted_at"),
    exact("qualified_at"),
    exact("proposal_at"),
    exact("negotiation_at"),
    exact("converted_at"),
    exact("won_at"),
    exact("lost_at"),
    exact("id"),
    exact("created_at"),
    exact("updated_at"),
];

const LEAD_SOURCES: &[(&str, &[&str])] = &[
    (
        "campaign",
        &[
            "advertisement",
            "advertising",
            "ad",
            "ads",
            "googleads",
            "adwords",
            "googleadwords",
            "bingads",
            "paidsearch",
            "ppc",
            "retargeting",
            "retargetingads",
            "displayads",
            "marketing",
            "marketingcampaign",
            "event",
            "events",
            "networkingevent",
            "conference",
            "webinar",
            "webinars",
            "seminar",
            "tradeshow",
            "tradeshows",
            "podcast",
        ],
    ),
    (
        "website",
        &[
            "web",
            "websiteform",
            "webform",
            "contactform",
            "landingpage",
            "organic",
            "organicsearch",
            "organicsearchseo",
            "seo",
            "search",
            "inbound",
            "chat",
            "chatbot",
            "livechat",
            "blog",
            "contentmarketing",
            "webdownload",
            "onlinestore",
        ],
    ),
    (
        "referral",
        &[
            "referrals",
            "partner",
            "partners",
            "partnerprogram",
            "partnerreferral",
            "employeereferral",
            "externalreferral",
            "customerreferral",
            "wordofmouth",
            "recommendation",
            "affiliate",
        ],
    ),
    (
        "direct",
        &[
            "directtraffic",
            "coldcall",
            "coldcalling",
            "phone",
            "phoneinquiry",
            "walkin",
            "outbound",
            "salesoutreach",
            "inperson",
        ],
    ),
    (
        "social",
        &[
            "socialmedia",
            "organicsocial",
            "paidsocial",
            "facebook",
            "facebookads",
            "linkedin",
            "linkedinads",
            "linkedinoutreach",
            "instagram",
            "instagramads",
            "twitter",
            "youtube",
            "tiktok",
            "xing",
        ],
    ),
    ("email", &["emailmarketing", "emailcampaign", "coldemail", "newsletter", "mailing", "mail"]),
    ("other", &["others", "unknown", "none", "na", "offline", "offlinesources", "purchasedlist"]),
];

const LEAD_STATUSES: &[(&str, &[&str])] = &[
    ("new", &["newlead", "open", "opennotcontacted", "notcontacted", "uncontacted", "subscriber", "lead", "raw"]),
    (
        "contacted",
        &[
            "attemptedtocontact",
            "contactattempted",
            "working",
            "workingcontacted",
            "openworking",
            "connected",
            "inprogress",
            "followup",
            "engaged",
            "reengagement",
        ],
    ),
    (
        "qualified",
        &[
            "qualification",
            "marketingqualifiedlead",
            "mql",
            "salesqualifiedlead",
            "sql",
            "qualifiedtobuy",
            "prequalified",
            "appointmentscheduled",
            "opportunity",
        ],
    ),
    (
        "proposal",
        &[
            "proposalsent",
            "proposalmade",
            "proposalpricequote",
            "presentationscheduled",
            "quote",
            "quotesent",
            "offersent",
        ],
    ),
    (
        "negotiation",
        &[
            "negotiations",
            "negotiating",
            "negotiationreview",
            "negotiationsstarted",
            "contractsent",
            "decisionmakerboughtin",
        ],
    ),
    ("converted", &["closedconverted", "customer", "convertedtocustomer"]),
    ("won", &["closedwon", "dealwon"]),
    (
        "lost",
        &[
            "closedlost",
            "deallost",
            "closednotconverted",
            "unqualified",
            "disqualified",
            "notqualified",
            "notinterested",
            "badfit",
            "junk",
            "junklead",
            "dead",
        ],
    ),
];

/// The fields of a customer.
pub const CUSTOMER_COLUMNS: &[Column] = &[
    NAME,
    FIRST_NAME,
    LAST_NAME,
    EMAIL,
    PHONE,
    COMPANY,
    Column {
        name: "type",
        aliases: &["customertype", "accounttype", "contacttype"],
        exact: false,
        required: false,
        parts: &[],
        words: CUSTOMER_TYPES,
    },
    Column {
        name: "status",
        aliases: &["customerstatus", "accountstatus", "contactstatus"],
        exact: false,
        required: false,
        parts: &[],
        words: CUSTOMER_STATUSES,
    },
    plain("billing_address", &["billingaddress", "invoiceaddress", "address", "streetaddress", "mailingaddress"]),
    plain("shipping_address", &["shippingaddress", "deliveryaddress"]),
    plain("payment_terms", &["paymentterms", "terms"]),
    plain("credit_limit", &["creditlimit"]),
    plain("tax_id", &["taxid", "taxnumber", "vat", "vatid", "vatnumber", "ein"]),
    plain("notes", &["note", "description", "comments", "comment", "message"]),
    exact("external_id"),
    exact("lead_id"),
    exact("assigned_to"),
    exact("custom_fields"),
    exact("id"),
    exact("created_at"),
    exact("updated_at"),
];

const CUSTOMER_TYPES: &[(&str, &[&str])] = &[
    ("individual", &["person", "private", "consumer", "b2c"]),
    ("business", &["company", "organization", "organisation", "corporate", "enterprise", "commercial", "b2b"]),
];

const CUSTOMER_STATUSES: &[(&str, &[&str])] = &[
    ("active", &["enabled", "current", "open"]),
    ("inactive", &["disabled", "former", "churned", "closed", "archived", "dormant"]),
    ("blocked", &["suspended", "banned", "onhold"]),
];
