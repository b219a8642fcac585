//! Every command that the pages for operators print exists, with its options.

use std::collections::BTreeMap;

use regex::Regex;
use tokio::process::Command;

use super::{files, read};

/// The commands of a page: in blocks, and between backticks.
fn commands(page: &str) -> Vec<Vec<String>> {
    let before = r"(?:^\s*|`|exec api-1 |run --rm migrate |crm-api -- )";
    let command = Regex::new(&format!(r"{before}(crm-(?:api|worker)(?: [^`|>&;#\n]*)?)(?:[`|>&;#\n]|$)")).unwrap();
    let found = page.lines().flat_map(|line| command.captures_iter(line)).map(|found| found[1].to_owned());
    found.map(|text| text.split_whitespace().take_while(|word| *word != "…").map(str::to_owned).collect()).collect()
}

/// Help texts, each asked for once.
#[derive(Default)]
struct Help(BTreeMap<String, String>);

impl Help {
    async fn of(&mut self, path: &[&str]) -> String {
        let name = path.join(" ");
        if let Some(text) = self.0.get(&name) {
            return text.clone();
        }
        let program = testing::workspace::program(path[0], None).unwrap();
        let output = Command::new(program).args(&path[1..]).arg("--help").env_clear().output().await.unwrap();
        assert!(output.status.success(), "{name} --help: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        self.0.insert(name, text.clone());
        text
    }

    /// What is wrong with a command.
    async fn fault(&mut self, command: &[String]) -> Option<String> {
        let (mut path, mut help) = (vec![&*command[0]], self.of(&[&command[0]]).await);
        for word in &command[1..] {
            if !subcommands(&help).contains(&word.as_str()) {
                break;
            }
            path.push(word);
            help = self.of(&path).await;
        }
        let rest = &command[path.len()..];
        let options = Regex::new(r"--[a-z][a-z-]*").unwrap();
        let known: Vec<&str> = options.find_iter(&help).map(|option| option.as_str()).collect();
        let unknown = rest
            .iter()
            .find(|word| word.starts_with("--") && !known.contains(&word.split('=').next().unwrap_or_default()));
        match (unknown, rest.first()) {
            (Some(option), _) => Some(format!("{} has no option {option}", path.join(" "))),
            (None, Some(word)) if !subcommands(&help).is_empty() && !word.starts_with("--") => {
                Some(format!("{} has no command {word}", path.join(" ")))
            }
            _ => None,
        }
    }
}

/// The names of the commands in a help text.
fn subcommands(help: &str) -> Vec<&str> {
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).collect()
}

#[tokio::test]
async fn every_command_in_the_pages_exists() {
    let mut pages = files("docs/runbooks");
    pages.extend(["docs/operating.md", "docs/deploying.md"].map(|name| (name.to_owned(), read(name))));
    let (mut help, mut faults, mut count) = (Help::default(), Vec::new(), 0);
    for (page, text) in &pages {
        for command in commands(text) {
            let written = command.join(" ");
            count += 1;
            faults.extend(help.fault(&command).await.map(|fault| format!("{page}: {written}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 20, "{count} commands were found");
}
