//! Sample leads and customers, in the format of another system's export.

use std::collections::HashSet;
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const HEADER: &str = "Record ID,First Name,Last Name,Company Name,Job Title,Email,Phone Number,City,Country,\
     Lead Source,Deal Stage,Lead Owner,Number of Employees,Notes\n";

/// Generates a CSV file of `rows` leads with different emails. The same seed gives the same file.
#[must_use]
pub fn leads(rows: usize, seed: u64) -> String {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut emails = HashSet::with_capacity(rows);
    let mut file = HEADER.to_owned();
    for row in 1..=rows {
        let (first, last) = (pick(random, FIRST_NAMES), pick(random, LAST_NAMES));
        let company = company(random);
        let (city, country, code) = pick(random, CITIES);
        let cells = [
            (100_000 + row).to_string(),
            first.to_owned(),
            last.to_owned(),
            pick(random, JOB_TITLES).to_owned(),
            email(first, last, &company, &mut emails),
            phone(random, code),
            city.to_owned(),
            country.to_owned(),
            pick(random, SOURCES).to_owned(),
            pick(random, STAGES).to_owned(),
            pick(random, OWNERS).to_owned(),
            pick(random, &["1-10", "11-50", "51-200", "201-1000", "1000+", ""]).to_owned(),
            note(random),
        ];
        let (before, after) = cells.split_at(3);
        let line: Vec<String> = before.iter().chain([&company]).chain(after).map(|cell| quoted(cell)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(file, "{}", line.join(","));
    }
    file
}

/// Generates a CSV file of `rows` customers with different emails. The same seed gives the same file.
#[must_use]
pub fn customers(rows: usize, seed: u64) -> String {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut emails = HashSet::with_capacity(rows);
    let mut file =
        "Account Name,First Name,Last Name,E-mail,Phone,Type,Billing Address,Payment Terms,Industry\n".to_owned();
    for _ in 0..rows {
        let (first, last) = (pick(random, FIRST_NAMES), pick(random, LAST_NAMES));
        let company = company(random);
        let (city, country, code) = pick(random, CITIES);
        let email = email(first, last, &company, &mut emails);
        let address =
            format!("{} {} Street\n{city}\n{country}", random.random_range(1..200), pick(random, COMPANY_ROOTS));
        let cells = [
            company.as_str(),
            first,
            last,
            &email,
            &phone(random, code),
            pick(random, &["business", "business", "individual"]),
            &address,
            pick(random, &["Net 30", "Net 14", "Prepaid", ""]),
            pick(random, COMPANY_KINDS),
        ];
        let line: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        let _ = writeln!(file, "{}", line.join(","));
    }
    file
}

fn pick<T: Copy>(random: &mut StdRng, from: &[T]) -> T {
    #[expect(clippy::expect_used, reason = "the lists of this file are not empty")]
    *from.choose(random).expect("a list of words")
}

fn company(random: &mut StdRng) -> String {
    let root = pick(random, COMPANY_ROOTS);
    match random.random_range(0..10) {
        0..4 => format!("{root} {}", pick(random, COMPANY_KINDS)),
        4..7 => format!("{root} & {}", pick(random, LAST_NAMES)),
        7..9 => format!("{root}, {} and Partners", pick(random, LAST_NAMES)),
        _ => format!("{root} {}, Inc.", pick(random, COMPANY_KINDS)),
    }
}

/// An address in a reserved domain, so that an email to it can never be delivered.
fn email(first: &str, last: &str, company: &str, taken: &mut HashSet<String>) -> String {
    let domain = ascii(company.split([',', '&']).next().unwrap_or(company));
    let local = format!("{}.{}", ascii(first), ascii(last));
    let mut email = format!("{local}@{domain}.example");
    let mut namesakes = 1;
    while !taken.insert(email.clone()) {
        namesakes += 1;
        email = format!("{local}{namesakes}@{domain}.example");
    }
    email
}

/// The letters and digits of a text in lower case, without accents.
fn ascii(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        'á' | 'ã' | 'ä' | 'å' => 'a',
        'é' | 'è' | 'ë' => 'e',
        'í' | 'ï' => 'i',
        'ó' | 'ö' | 'ø' | 'Ø' => 'o',
        'ü' | 'ú' => 'u',
        'ñ' => 'n',
        'ł' | 'Ł' => 'l',
        'š' | 'Š' => 's',
        'ç' | 'ć' => 'c',
        other => other,
    });
    plain.filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// A phone number in one of several formats, sometimes empty.
fn phone(random: &mut StdRng, code: &str) -> String {
    let (area, middle, end) =
        (random.random_range(201..990), random.random_range(200..1000), random.random_range(0..10_000));
    match random.random_range(0..10) {
        0 => String::new(),
        1..4 => format!("+{code} {area} {middle} {end:04}"),
        4..6 => format!("({area}) {middle}-{end:04}"),
        6..8 => format!("{area}.{middle}.{end:04}"),
        8 => format!("{area}-{middle}-{end:04} x{}", random.random_range(10..1000)),
        _ => format!("00{code}{area}{middle}{end:04}"),
    }
}

fn note(random: &mut StdRng) -> String {
    match random.random_range(0..6) {
        0 | 1 => String::new(),
        2 => format!("{}\n{}", pick(random, NOTES), pick(random, NOTES)),
        _ => pick(random, NOTES).to_owned(),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[rustfmt::skip]
const FIRST_NAMES: &[&str] = &[
    "Ada", "Aisha", "Alejandro", "Amara", "Anders", "Anna", "Arjun", "Beatriz", "Ben", "Björn", "Camille", "Carlos",
    "Chen", "Chiara", "Clara", "Daniel", "David", "Elena", "Elif", "Emma", "Fatima", "Felix", "Fiona", "Gabriel",
    "Grace", "Hannah", "Hiro", "Hugo", "Ines", "Ivan", "Jack", "Jamal", "Jana", "Javier", "Jonas", "José", "Julia",
    "Kaito", "Karin", "Katarzyna", "Kofi", "Lars", "Laura", "Leila", "Léa", "Liam", "Lin", "Lucía", "Magnus", "Maja",
    "Marco", "Maria", "Marta", "Mateo", "Mei", "Mia", "Milan", "Mohamed", "Nadia", "Naomi", "Nia", "Nikolai", "Noah",
    "Nora", "Olga", "Oliver", "Omar", "Paolo", "Paula", "Pedro", "Petra", "Priya", "Quentin", "Rafael", "Ravi",
    "Renée", "Robert", "Rosa", "Samuel", "Sara", "Selma", "Sofia", "Sören", "Tara", "Thabo", "Theo", "Thomas",
    "Tomás", "Uma", "Valentina", "Vera", "Victor", "Wanda", "William", "Xavier", "Yara", "Yuki", "Yusuf", "Zainab",
    "Zoë",
];
#[rustfmt::skip]
const LAST_NAMES: &[&str] = &[
    "Adeyemi", "Almeida", "Andersson", "Bauer", "Becker", "Bennett", "Bianchi", "Bianco", "Brown", "Carter", "Castro",
    "Chaudhary", "Cohen", "Costa", "Czerny", "da Silva", "Delgado", "Diaz", "Dubois", "Edwards", "Eriksen",
    "Fernández", "Fischer", "Fletcher", "Foster", "García", "Gruber", "Gupta", "Haddad", "Hansen", "Harris",
    "Hoffmann", "Horvat", "Hughes", "Ibrahim", "Ito", "Jansen", "Jensen", "Johnson", "Kaya", "Keller", "Khan", "Kim",
    "Kovács", "Kowalski", "Kumar", "Larsen", "Laurent", "Lee", "Lehmann", "Lopez", "Łukasik", "Mancini", "Martin",
    "Mbeki", "Meyer", "Moreau", "Müller", "Murphy", "Nakamura", "Navarro", "Nguyen", "Nielsen", "Novák", "Núñez",
    "O'Brien", "Okafor", "Oliveira", "Olsen", "Papadakis", "Patel", "Pereira", "Petrov", "Popescu", "Quinn",
    "Ramírez", "Reyes", "Ricci", "Rossi", "Roy", "Saito", "Santos", "Schmidt", "Schneider", "Silva", "Singh", "Smith",
    "Sørensen", "Stein", "Suzuki", "Šimić", "Tanaka", "Taylor", "Torres", "van Dijk", "Vargas", "Vogel", "Walker",
    "Weber", "Wilson", "Wójcik", "Wright", "Yamamoto", "Yilmaz", "Young", "Zhang", "Zimmermann",
];
#[rustfmt::skip]
const COMPANY_ROOTS: &[&str] = &[
    "Alder", "Amber", "Apex", "Arbor", "Atlas", "Aurora", "Beacon", "Birch", "Bluewater", "Bright Path", "Cascade",
    "Cedar", "Clearview", "Cobalt", "Copperfield", "Crescent", "Delta", "Driftwood", "Eastgate", "Ember", "Evergreen",
    "Fairway", "Falcon", "Fjord", "Foxglove", "Granite", "Greenfield", "Harbor", "Hawthorn", "Highland", "Horizon",
    "Ironbridge", "Juniper", "Kestrel", "Keystone", "Lakeside", "Lantern", "Lighthouse", "Lindgren", "Lumen", "Maple",
    "Meridian", "Mistral", "Northwind", "Oakline", "Orchard", "Orion", "Palisade", "Pinecrest", "Polaris", "Quarry",
    "Redwood", "Ridgeway", "Riverbend", "Rowan", "Saffron", "Sequoia", "Silverline", "Skylark", "Solstice",
    "Stonebridge", "Summit", "Tamarind", "Terrace", "Thistle", "Tidewater", "Trailhead", "Umbra", "Vantage",
    "Verdant", "Vertex", "Vista", "Waypoint", "Westbrook", "Willow", "Windmill", "Yarrow", "Zenith", "Zephyr",
];
#[rustfmt::skip]
const COMPANY_KINDS: &[&str] = &[
    "Analytics", "Capital", "Clinics", "Consulting", "Design", "Energy", "Foods", "Freight", "Group", "Health",
    "Hotels", "Industries", "Insurance", "Labs", "Logistics", "Ltd", "Manufacturing", "Media", "Networks", "Partners",
    "Properties", "Retail", "Robotics", "Schools", "Security", "Software", "Solutions", "Studios", "Systems",
    "Travel",
];
#[rustfmt::skip]
const JOB_TITLES: &[&str] = &[
    "Account Manager", "Buyer", "CEO", "CFO", "CTO", "Chief of Staff", "Director of Sales", "Engineer", "Founder",
    "Head of Marketing", "Head of Operations", "IT Manager", "Managing Director", "Office Manager", "Owner",
    "Partner", "Procurement Lead", "Product Manager", "Project Manager", "Purchasing, Europe", "Sales Manager",
    "VP Engineering", "VP Sales", "",
];
/// City, country, the country's telephone code.
const CITIES: &[(&str, &str, &str)] = &[
    ("Amsterdam", "Netherlands", "31"),
    ("Austin", "United States", "1"),
    ("Bengaluru", "India", "91"),
    ("Berlin", "Germany", "49"),
    ("Boston", "United States", "1"),
    ("Copenhagen", "Denmark", "45"),
    ("Denver", "United States", "1"),
    ("Dublin", "Ireland", "353"),
    ("Lagos", "Nigeria", "234"),
    ("Lisbon", "Portugal", "351"),
    ("London", "United Kingdom", "44"),
    ("Madrid", "Spain", "34"),
    ("Melbourne", "Australia", "61"),
    ("Mexico City", "Mexico", "52"),
    ("Milan", "Italy", "39"),
    ("Nairobi", "Kenya", "254"),
    ("New York", "United States", "1"),
    ("Osaka", "Japan", "81"),
    ("Paris", "France", "33"),
    ("São Paulo", "Brazil", "55"),
    ("Seattle", "United States", "1"),
    ("Singapore", "Singapore", "65"),
    ("Stockholm", "Sweden", "46"),
    ("Toronto", "Canada", "1"),
    ("Vienna", "Austria", "43"),
    ("Warsaw", "Poland", "48"),
    ("Zürich", "Switzerland", "41"),
];
#[rustfmt::skip]
const SOURCES: &[&str] = &[
    "Chatbot", "Cold Call", "Cold Email", "Content Marketing", "Direct Traffic", "Email Campaign", "Facebook Ads",
    "Google Ads", "LinkedIn Outreach", "Networking Event", "Organic Search (SEO)", "Other", "Partner Program",
    "Podcast", "Referral", "Social Media", "Trade Show", "Webinars", "Website Form", "",
];
/// Most leads are in an early stage.
#[rustfmt::skip]
const STAGES: &[&str] = &[
    "New Lead", "New Lead", "New Lead", "New Lead", "Contacted", "Contacted", "Contacted", "Qualified", "Qualified",
    "Proposal Sent", "Negotiation", "Closed Won", "Closed Lost", "Closed Lost", "On Hold", "",
];
const OWNERS: &[&str] = &["Dana Whitfield", "Emeka Obi", "Ingrid Sandberg", "Luis Herrera", "Priyanka Rao", ""];
const NOTES: &[&str] = &[
    "Asked for a demo next week.",
    "Budget is approved for this quarter; wants two references.",
    "Called, no answer. Try again after 3 pm.",
    "Compares us with their present tool, mostly on price.",
    "Contract with the other vendor ends in March.",
    "Decision is made by the board, not by the team.",
    "Downloaded the white paper on onboarding.",
    "Interested, but \"not before the new fiscal year\".",
    "Met at the booth; collects offers for 40 seats.",
    "Moved to another company, ask for the successor.",
    "Needs single sign-on, audit logs and an EU data centre.",
    "Prefers email, please do not call.",
    "Referred by a customer in the same building.",
    "Security questionnaire sent, waiting for their answers.",
    "Trial expired, liked the reports.",
    "Wants to start small: 5 seats, monthly, then the whole department.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_depends_only_on_the_seed() {
        assert_eq!(leads(500, 1), leads(500, 1));
        assert_ne!(leads(500, 1), leads(500, 2));
    }

    #[test]
    fn emails_are_ascii_and_unique() {
        let mut taken = HashSet::new();
        assert_eq!(email("Zoë", "O'Brien", "Alder, Núñez and Partners", &mut taken), "zoe.obrien@alder.example");
        assert_eq!(email("Zoë", "O'Brien", "Alder & Costa", &mut taken), "zoe.obrien2@alder.example");
        assert_eq!(email("Łucja", "da Silva", "Bright Path Labs", &mut taken), "lucja.dasilva@brightpathlabs.example");
    }

    #[test]
    fn every_letter_of_the_lists_has_an_ascii_form() {
        for name in FIRST_NAMES.iter().chain(LAST_NAMES).chain(COMPANY_ROOTS).chain(COMPANY_KINDS) {
            let letters = name.chars().filter(|c| c.is_alphanumeric()).count();
            assert_eq!(ascii(name).len(), letters, "{name}");
        }
    }
}
