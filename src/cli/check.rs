//! `churnd check`: the configuration and the rules, all mistakes at once, without asking any server.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use super::{
    output,
    settings::{DaemonSettings, Settings},
};
use crate::{
    config::{Config, ConfigErrors, Sources},
    engine::rules::Rules,
    event::ids::AccountId,
    pipeline::config::RulesConfig,
};

/// The flags of `churnd check`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Further rules files to check
    #[arg(value_name = "RULES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    daemon: DaemonSettings,
}

/// Everything that is wrong with the configuration and the rules.
#[derive(Debug)]
pub(super) struct Mistakes {
    config: Option<ConfigErrors>,
    rules: Vec<String>,
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(config) = &self.config {
            write!(formatter, "{config}")?;
        }
        if !self.rules.is_empty() {
            let separator = if self.config.is_some() { "\n" } else { "" };
            write!(formatter, "{separator}the rules cannot be used")?;
            self.rules.iter().flat_map(|text| text.lines()).try_for_each(|line| write!(formatter, "\n  {line}"))?;
        }
        Ok(())
    }
}

impl Options {
    /// Checks everything and fails with all that was found.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let loaded = self.settings.load_for(&self.daemon);
        let named = match &loaded {
            Ok(config) => config.rules.clone(),
            Err(_) => rules_named_by(&self.settings.sources(self.daemon.flags())),
        };
        let mut found = self.rules_files(&named);
        let rules: Vec<String> = found.files.iter().filter_map(|file| mistakes_in(file)).collect();
        found.mistakes.extend(rules);
        match loaded {
            Ok(config) if found.mistakes.is_empty() => Ok(say_what_holds(&config, found.files.len())?),
            loaded => Err(Mistakes { config: loaded.err(), rules: found.mistakes }.into()),
        }
    }

    /// All rules files that are named by the settings and the command.
    fn rules_files(&self, named: &RulesConfig) -> Found {
        let mut found = Found { files: self.files.clone(), mistakes: Vec::new() };
        // That there is no such file or directory is told by the settings' own check.
        found.files.extend(named.file.clone().filter(|file| file.is_file()));
        let Some(directory) = named.accounts_dir.as_ref().filter(|directory| directory.is_dir()) else { return found };
        match fs::read_dir(directory) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).for_each(|path| found.add_of_account(path)),
            Err(error) => found.mistakes.push(format!("{}: cannot be read: {error}", directory.display())),
        }
        found.files.sort();
        found
    }
}

/// Rules files, and what is wrong with their names.
struct Found {
    files: Vec<PathBuf>,
    mistakes: Vec<String>,
}

impl Found {
    fn add_of_account(&mut self, path: PathBuf) {
        if path.extension().is_none_or(|extension| extension != "toml") {
            return;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if let Err(error) = AccountId::parse(stem) {
            self.mistakes.push(format!("{}: the file must be named <account>.toml: {error}", path.display()));
        }
        self.files.push(path);
    }
}

fn mistakes_in(file: &Path) -> Option<String> {
    let name = file.display().to_string();
    match fs::read_to_string(file) {
        Ok(text) => Rules::parse(&text, &name).err().map(|mistakes| mistakes.to_string()),
        Err(error) => Some(format!("{name}: cannot be read: {error}")),
    }
}

fn say_what_holds(config: &Config, rules_files: usize) -> Result<(), output::NotPrinted> {
    output::line("the configuration can be used")?;
    output::line(format!("  instance  {}", config.instance_name()))?;
    output::line(format!("  roles     {}", config.roles))?;
    output::line(format!("  nats      {}", config.nats.redacted_url()))?;
    output::line(format!("  http      {}", config.http.listen))?;
    let memory = config.pipeline.memory_bound().div_ceil(1 << 20);
    output::line(format!("  memory    up to {memory} MiB, with customers of the usual size and all roles"))?;
    output::line(match rules_files {
        0 => "  rules     built in".to_owned(),
        files => format!("  rules     {}", output::counted(files as u64, "file")),
    })?;
    output::line("whether the servers can be reached is what `churnd doctor` finds out")
}

/// The rules that are named by settings which, as a whole, cannot be used: so that their mistakes are told too.
fn rules_named_by(sources: &Sources) -> RulesConfig {
    let file = sources.file.as_ref().or_else(|| sources.usual_files.iter().find(|file| file.exists()));
    let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let table = toml::from_str::<toml::Table>(&text).unwrap_or_default();
    let named = |name: &str| {
        let in_file = table.get("rules").and_then(|rules| rules.get(name)?.as_str());
        let variable = format!("CHURND__RULES__{}", name.to_uppercase());
        let in_environment = sources.environment.iter().find(|(known, _)| *known == variable);
        let key = format!("rules.{name}");
        let in_flags = sources.flags.iter().find(|flag| flag.key == key).map(|flag| flag.value.as_str());
        in_flags.or(in_environment.map(|(_, value)| value.as_str())).or(in_file).filter(|path| !path.is_empty())
    };
    RulesConfig { file: named("file").map(PathBuf::from), accounts_dir: named("accounts_dir").map(PathBuf::from) }
}
