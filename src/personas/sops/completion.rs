//! `sops completion`: scripts that ask the program itself what could come next.

use super::context::print;
use super::end::Outcome;

pub(super) fn bash() -> Outcome {
    print(BASH.as_bytes())
}

pub(super) fn zsh() -> Outcome {
    print(ZSH.as_bytes())
}

const BASH: &str = r#"_sops() {
  local current="${COMP_WORDS[COMP_CWORD]}"
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ $current == -* ]] && words+=("$current")
  mapfile -t COMPREPLY < <(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$current")
}
complete -o bashdefault -o default -F _sops sops
"#;

const ZSH: &str = r#"#compdef sops

_sops() {
  local -a asked known
  asked=(${words[1,CURRENT-1]})
  [[ $words[CURRENT] == -* ]] && asked+=($words[CURRENT])
  known=("${(@f)$($asked --generate-bash-completion 2>/dev/null)}")
  if [[ -n $known[1] ]]; then
    compadd -a known
  fi
  [[ $words[CURRENT] == -* ]] || _files
}

compdef _sops sops
"#;
