use std::path::PathBuf;

use super::*;

const URL: (&str, &str) = ("DATABASE_URL", "postgres://crm:hidden@localhost/crm");

fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let path = file.map(write);
    let settings = Settings::from_layers(path.as_deref(), environment).map_err(|error| error.to_string());
    if let Some(path) = path {
        std::fs::remove_file(path).unwrap();
    }
    settings
}

fn write(text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("crm-{}.toml", uuid::Uuid::now_v7()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_built_in_settings_need_nothing_but_a_database() {
    let settings = load(None, &[URL]).unwrap();
    assert_eq!((settings.public_url.as_str(), settings.own_url()), ("http://localhost:3000", None));
    assert_eq!(settings.imports.max_bytes, 10 * 1024 * 1024 * 1024);
    assert_eq!(&*settings.database.url, URL.1);
    assert_eq!(
        load(None, &[]).unwrap_err(),
        "the setting database.url from the built-in settings is wrong: it is not set; set DATABASE_URL"
    );
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_built_in() {
    let file = "public_url = 'https://crm.example/'\n[worker]\nqueues = ['imports']\nconcurrency = 2\n";
    let settings = load(Some(file), &[URL, ("CRM_WORKER__CONCURRENCY", "8"), ("PATH", "/bin")]).unwrap();
    assert_eq!(settings.own_url(), Some("https://crm.example"));
    assert_eq!(settings.worker.queues, ["imports"]);
    assert_eq!(settings.worker.concurrency, 8);
    assert_eq!(settings.worker.shutdown_s, 25);
}

#[test]
fn a_public_url_that_was_set_to_its_default_counts() {
    let settings = load(None, &[URL, ("CRM_PUBLIC_URL", "http://localhost:3000")]).unwrap();
    assert_eq!(settings.own_url(), Some("http://localhost:3000"));
}

#[test]
fn a_variable_can_name_the_file() {
    let path = write("[jobs]\nkeep_days = 7\n");
    let settings = load(None, &[URL, ("CRM_CONFIG", path.to_str().unwrap())]).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(settings.jobs.keep_days, 7);
    let missing = load(None, &[URL, ("CRM_CONFIG", "/nowhere/crm.toml")]).unwrap_err();
    assert!(missing.starts_with("the settings file /nowhere/crm.toml cannot be read: "), "{missing}");
}

#[test]
fn a_prefixed_variable_wins_over_the_common_one_and_lists_are_separated_by_commas() {
    let environment = [("CRM_DATABASE__URL", "postgres://ours/crm"), URL, ("CRM_WORKER__QUEUES", "imports, imports")];
    let settings = load(None, &environment).unwrap();
    assert_eq!(&*settings.database.url, "postgres://ours/crm");
    assert_eq!(settings.worker.queues, ["imports", "imports"]);
    assert!(load(None, &[URL, ("CRM_WORKER__QUEUES", "")]).unwrap().worker.queues.is_empty());
}

#[test]
fn a_secret_is_read_from_a_file_and_never_shown() {
    let path = write("postgres://crm:hidden@localhost/crm\n");
    let settings = load(None, &[("DATABASE_URL_FILE", path.to_str().unwrap())]).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(&*settings.database.url, URL.1);
    assert!(!format!("{settings:?}").contains("hidden"));
    let missing = load(None, &[("CRM_DATABASE__URL_FILE", "/nowhere")]).unwrap_err();
    assert!(missing.starts_with("the file /nowhere that CRM_DATABASE__URL_FILE names cannot be read: "), "{missing}");
}

#[test]
fn a_password_leaves_the_machine_only_encrypted() {
    let mail = |host, tls| {
        let mail = [("CRM_MAIL__HOST", host), ("CRM_MAIL__TLS", tls), ("CRM_MAIL__USER", "crm")];
        load(None, &[URL, mail[0], mail[1], mail[2]])
    };
    assert!(mail("smtp.example", "none").unwrap_err().contains("mail.tls"));
    assert_eq!(mail("smtp.example", "starttls").unwrap().mail.port(), 587);
    assert_eq!(mail("127.0.0.1", "none").unwrap().mail.port(), 25);
}

#[test]
fn each_program_answers_its_operators_at_a_port_of_its_own() {
    let ports = |environment: &[(&str, &str)]| {
        let settings = load(None, &[&[URL], environment].concat()).unwrap();
        (settings.api_admin().to_string(), settings.worker_admin().to_string())
    };
    let both = |api: &str, worker: &str| (api.to_owned(), worker.to_owned());
    let (admin, worker) = (("CRM_ADMIN__LISTEN", "10.0.0.1:1"), ("CRM_WORKER__LISTEN", "[::1]:2"));
    assert_eq!(ports(&[]), both("127.0.0.1:9463", "127.0.0.1:9464"));
    assert_eq!(ports(&[admin]), both("10.0.0.1:1", "10.0.0.1:1"));
    assert_eq!(ports(&[worker]), both("127.0.0.1:9463", "[::1]:2"));
    assert_eq!(ports(&[admin, worker]), both("10.0.0.1:1", "[::1]:2"));
}

#[test]
fn trusted_proxies_are_addresses_and_networks() {
    let proxies = |text| load(None, &[URL, ("CRM_API__TRUSTED_PROXIES", text)]).map(|it| it.api.trusted_proxies);
    let trusted = proxies("10.0.0.0/8, 192.0.2.7,2001:db8::/32").unwrap();
    let trusts = |address: &str| trusted.iter().any(|network| network.contains(address.parse().unwrap()));
    for address in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "2001:db8::1"] {
        assert!(trusts(address), "{address}");
    }
    for address in ["11.0.0.1", "192.0.2.8", "::1"] {
        assert!(!trusts(address), "{address}");
    }
    assert!(proxies("").unwrap().is_empty());
    assert_eq!(
        proxies("10.0.0.0/33").unwrap_err(),
        "the setting api.trusted_proxies from the environment variable CRM_API__TRUSTED_PROXIES is wrong: \
         it must be addresses or networks such as 10.0.0.0/8"
    );
}

#[test]
fn cors_origins_are_written_as_browsers_send_them() {
    let origins = |text| load(None, &[URL, ("CRM_API__CORS_ORIGINS", text)]).map(|it| it.api.cors_origins);
    let allowed = origins("https://App.example.com, http://localhost:5173").unwrap();
    let allows = |origin: &str| allowed.iter().any(|allowed| allowed.allows(origin.as_bytes()));
    assert!(allows("https://app.example.com") && allows("http://localhost:5173"));
    for other in ["http://app.example.com", "https://example.com", "https://app.example.com:444", "null", "*", ""] {
        assert!(!allows(other), "{other}");
    }
    assert!(origins("*").unwrap()[0].allows(b"https://any.example"));
    for wrong in ["app.example.com", "https://app.example.com/", "https://", "https://a b", "null", "ftp://a"] {
        let error = origins(wrong).unwrap_err();
        assert!(error.ends_with("it must be origins such as https://app.example.com, or *"), "{wrong}: {error}");
    }
    assert!(origins("").unwrap().is_empty());
}

#[test]
fn an_unknown_setting_is_reported_with_its_source() {
    let unknown = |file, variable| load(file, &[URL, variable]).unwrap_err();
    assert_eq!(
        unknown(None, ("CRM_API__LISTNE", "x")),
        "unknown setting api.listne in the environment variable CRM_API__LISTNE"
    );
    let in_file = unknown(Some("[api]\nport = 3\n"), ("HOME", "/"));
    assert!(in_file.starts_with("unknown setting api.port in /") && in_file.ends_with(".toml"), "{in_file}");
}

#[test]
fn an_invalid_setting_is_reported_with_its_source_and_the_reason() {
    let wrong = |name, value| load(None, &[URL, (name, value)]).unwrap_err();
    for (name, value, sentence) in [
        (
            "CRM_API__LISTEN",
            "here",
            "the setting api.listen from the environment variable CRM_API__LISTEN is wrong: invalid socket address syntax",
        ),
        (
            "CRM_ADMIN__LISTEN",
            "9463",
            "the setting admin.listen from the environment variable CRM_ADMIN__LISTEN is wrong: it must be an address and a port such as 127.0.0.1:9463",
        ),
        (
            "CRM_API__WRITE_TIMEOUT_S",
            "0",
            "the setting api.write_timeout_s from the environment variable CRM_API__WRITE_TIMEOUT_S is wrong: it must be at least 1",
        ),
        (
            "CRM_WORKER__CONCURRENCY",
            "many",
            "the setting worker.concurrency from the environment variable CRM_WORKER__CONCURRENCY is wrong: it must be an integer, not string \"many\"",
        ),
        (
            "CRM_WORKER__CONCURRENCY",
            "0",
            "the setting worker.concurrency from the environment variable CRM_WORKER__CONCURRENCY is wrong: it must be at least 1",
        ),
        (
            "CRM_PUBLIC_URL",
            "crm.example",
            "the setting public_url from the environment variable CRM_PUBLIC_URL is wrong: it must start with http:// or https://",
        ),
        (
            "CRM_LOG__FORMAT",
            "xml",
            "the setting log.format from the environment variable CRM_LOG__FORMAT is wrong: it must be auto, json or text",
        ),
        (
            "CRM_LOG__LEVEL",
            "loud",
            "the setting log.level from the environment variable CRM_LOG__LEVEL is wrong: it must be a level such as info, or levels of modules such as info,sqlx=debug",
        ),
        (
            "CRM_MAIL__TLS",
            "ssl",
            "the setting mail.tls from the environment variable CRM_MAIL__TLS is wrong: it must be none, starttls or tls",
        ),
        (
            "CRM_MAIL__FROM_EMAIL",
            "crm",
            "the setting mail.from_email from the environment variable CRM_MAIL__FROM_EMAIL is wrong: it must be an email address such as name@example.com",
        ),
    ] {
        assert_eq!(wrong(name, value), sentence);
    }
    let torn = load(Some("[database]\nurl = 'postgres://crm:hidden@localhost\n"), &[]).unwrap_err();
    assert!(torn.contains("cannot be read: TOML parse error at line 2") && !torn.contains("hidden"), "{torn}");
}

#[test]
fn internal_receivers_are_networks_with_a_port() {
    let receivers = |text| load(None, &[URL, ("CRM_WEBHOOKS__INTERNAL_RECEIVERS", text)]).map(|it| it.webhooks);
    let allowed = receivers("10.0.0.0/8:8443, 127.0.0.1:9000,[fd00::]/8:80, fd12::1:81").unwrap().internal_receivers;
    let allows = |address: &str| allowed.iter().any(|receiver| receiver.contains(address.parse().unwrap()));
    for address in ["10.1.2.3:8443", "[::ffff:10.1.2.3]:8443", "127.0.0.1:9000", "[fd00::1]:80", "[fd12::1]:81"] {
        assert!(allows(address), "{address}");
    }
    for address in ["10.1.2.3:443", "127.0.0.2:9000", "[fd00::1]:81"] {
        assert!(!allows(address), "{address}");
    }
    for wrong in ["10.0.0.0/8", "10.0.0.0/8:0", "10.0.0.0/33:80", "example.com:80"] {
        let error = receivers(wrong).unwrap_err();
        assert!(error.ends_with("with a port, such as 10.0.0.0/8:8443"), "{error}");
    }
}

#[test]
fn the_key_of_webhooks_has_32_bytes() {
    let key = |text| load(None, &[URL, ("CRM_WEBHOOKS__ENCRYPTION_KEY", text)]).map(|it| it.webhooks.key());
    assert_eq!(key("").unwrap(), None);
    assert_eq!(key("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap(), Some([0; 32]));
    let error = key("AAAA").unwrap_err();
    assert!(error.contains("webhooks.encryption_key") && !error.contains("AAAA"), "{error}");
}

#[test]
fn all_faults_are_reported_at_once() {
    let file = "[api]\nport = 3\nlisten = 'here'\n[jobs]\nkeep_days = 0\n";
    let environment = [("CRM_WORKER__CONCURRENCY", "many"), ("CRM_MAIL__PASSWORD_FILE", "/nowhere"), ("CRM_MAILS", "")];
    let faults = load(Some(file), &environment).unwrap_err();
    let about = [
        "the setting api.listen",
        "unknown setting api.port",
        "the setting database.url",
        "the setting jobs.keep_days",
        "the file /nowhere that CRM_MAIL__PASSWORD_FILE names",
        "unknown setting mails",
        "the setting worker.concurrency",
    ];
    assert_eq!(faults.lines().count(), about.len(), "{faults}");
    for (line, about) in faults.lines().zip(about) {
        assert!(line.contains(about), "{line}: {about}");
    }
}

/// The entry of a setting in a report.
fn shown(environment: &[(&str, &str)], name: &str) -> Entry {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let report = Report::from_layers(None, environment);
    report.entries.into_iter().find(|entry| entry.name == name).unwrap()
}

#[test]
fn settings_are_shown_with_their_source_and_type() {
    use serde_json::json;
    let environment = [URL, ("CRM_WORKER__CONCURRENCY", "8"), ("CRM_WORKER__QUEUES", "mail, imports")];
    assert_eq!(shown(&environment, "worker.concurrency").value, json!(8));
    assert_eq!(shown(&environment, "worker.queues").value, json!(["mail", "imports"]));
    assert_eq!(shown(&environment, "worker.queues").source, Source::Variable("CRM_WORKER__QUEUES".to_owned()));
    assert_eq!(shown(&environment, "worker.schedule").source, Source::BuiltIn);
    assert_eq!(shown(&[("CRM_WORKER__CONCURRENCY", "many")], "worker.concurrency").value, json!("many"));
}

#[test]
fn no_secret_is_shown() {
    let database = |url: &str| shown(&[("DATABASE_URL", url)], "database.url").value;
    assert_eq!(database(URL.1), "postgres://crm:***@localhost/crm");
    assert_eq!(
        database("postgres://crm@db/crm?password=hidden&sslmode=require"),
        "postgres://crm@db/crm?sslmode=require"
    );
    assert_eq!(database("hidden"), "(secret)");
    assert_eq!(shown(&[("CRM_MAIL__PASSWORD", "hidden")], "mail.password").value, "(secret)");
    assert_eq!(shown(&[], "mail.password").value, "");

    // Every setting of the type `Secret` is masked.
    let fields = |section: &str, source: &str| -> Vec<String> {
        let fields = source.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.strip_suffix(": Secret,"));
        fields.map(|field| format!("{section}.{field}")).collect()
    };
    let mut secrets = fields("mail", include_str!("mail.rs"));
    secrets.extend(fields("webhooks", include_str!("webhooks.rs")));
    secrets.extend(fields("database", include_str!("../config.rs")));
    assert_eq!(secrets, ["mail.password", "webhooks.encryption_key", "database.url"]);
    for secret in &secrets {
        let variable = format!("CRM_{}", secret.to_uppercase().replace('.', "__"));
        let value = shown(&[(&variable, "hidden")], secret).value;
        assert_eq!(value, "(secret)", "{secret}");
    }
}

#[test]
fn what_is_probably_not_wanted_is_a_warning() {
    let warned = |environment: &[(&str, &str)]| -> Vec<&str> {
        load(None, environment).unwrap().warnings().iter().map(|warning| warning.name).collect()
    };
    assert_eq!(warned(&[URL]), ["public_url", "webhooks.encryption_key", "mail.host"]);
    let well_set = [
        ("DATABASE_URL", "postgres://crm@db.example/crm?sslmode=verify-full"),
        ("CRM_PUBLIC_URL", "https://crm.example"),
        ("CRM_API__TRUSTED_PROXIES", "10.0.0.2"),
        ("CRM_WEBHOOKS__ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("CRM_MAIL__HOST", "smtp.example"),
        ("CRM_MAIL__FROM_EMAIL", "hello@crm.example"),
    ];
    assert_eq!(warned(&well_set), Vec::<&str>::new());
    for (name, value, setting) in [
        ("CRM_PUBLIC_URL", "http://crm.example", "public_url"),
        ("CRM_API__TRUSTED_PROXIES", "", "api.trusted_proxies"),
        ("DATABASE_URL", "postgres://crm@db.example/crm", "database.url"),
        ("CRM_MAIL__TLS", "none", "mail.tls"),
        ("CRM_MAIL__FROM_EMAIL", "crm@example.com", "mail.from_email"),
        ("CRM_MAIL__SENDER_DOMAINS", "*", "mail.sender_domains"),
        ("CRM_WEBHOOKS__ALLOW_HTTP", "true", "webhooks.allow_http"),
    ] {
        assert_eq!(warned(&[&well_set[..], &[(name, value)]].concat()), [setting], "{name}={value}");
    }
}
