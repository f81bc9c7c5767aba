//! Where a command works: a project, this user's state of it, and who can be asked for passphrases.

use std::sync::Arc;

use crate::edge::environment::Environment;
use crate::edge::terminal::Prompt;
use crate::host::Project;
use crate::host::spec::{Arch, Spec};
use crate::instance::{Home, Place, ProjectState};
use crate::lifecycle::Error;
use crate::secrets::session::Session;

/// A project and this user's state of its instances.
pub struct Site {
    /// The project.
    pub project: Project,
    /// The state of all instances of this user.
    pub home: Home,
    /// The state of this project's.
    pub state: ProjectState,
    /// The variables of this run.
    pub environment: Environment,
    prompt: Arc<dyn Prompt>,
}

impl Site {
    /// A project's, with its state directory made if need be.
    ///
    /// # Errors
    /// There is nowhere to keep state.
    pub fn of(project: Project, environment: &Environment, prompt: Arc<dyn Prompt>) -> Result<Self, Error> {
        let home = Home::find(environment)?;
        let state = home.project(project.root())?;
        Ok(Self { project, home, state, environment: environment.clone(), prompt })
    }

    /// The description of one of the project's hosts, for this kind of machine.
    ///
    /// # Errors
    /// There is no such host, or its host.yaml is not valid.
    pub fn spec(&self, host: &str) -> Result<Spec, Error> {
        let arch = Arch::native().ok_or(Error::NoArch)?;
        Ok(self.project.load(host, arch)?)
    }

    /// The place of an instance that exists, or of a host that is defined.
    ///
    /// # Errors
    /// There is neither; it says which hosts there are.
    pub fn place(&self, name: &str) -> Result<Place, Error> {
        if !self.project.host_file(name).is_file() && !self.state.path.join(name).is_dir() {
            self.spec(name)?;
        }
        Ok(self.state.place(name)?)
    }

    /// A session for the project's secrets.
    pub(super) fn session(&self) -> Session {
        let root = self.project.root().to_path_buf();
        Session::new(self.environment.clone(), Arc::clone(&self.prompt), root).with_nested_rules()
    }
}
