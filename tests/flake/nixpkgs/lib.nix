# Functions and modules of nixpkgs' library, as far as the tests use them.
let
  inherit (builtins) attrNames concatLists concatMap elem elemAt filter foldl' head isAttrs isFunction isList length listToAttrs map mapAttrs typeOf;

  fix = f: let x = f x; in x;
  genAttrs = names: f: listToAttrs (map (name: { inherit name; value = f name; }) names);
  optionalAttrs = condition: set: if condition then set else { };
  merged = a: b: a // mapAttrs (name: value:
    if a ? ${name} && isAttrs a.${name} && isAttrs value && !(value ? _type) then merged a.${name} value else value) b;

  mkOption = spec: spec // { _type = "option"; };
  mkEnableOption = what: mkOption { type = types.bool; default = false; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkForce = mkOverride 50;
  mkDefault = mkOverride 1000;
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };

  is = type: value: isAttrs value && (value._type or null) == type;

  # The attribute sets in a definition. What wraps them goes on to their values, so that no condition is asked before
  # the value that it is about.
  sets = value:
    if is "if" value then map (mapAttrs (_: mkIf value.condition)) (sets value.content)
    else if is "override" value then map (mapAttrs (_: mkOverride value.priority)) (sets value.content)
    else if is "merge" value then concatMap sets value.contents
    else [ value ];

  # The values in a definition, each with its priority.
  values = value:
    if is "if" value then (if value.condition then values value.content else [ ])
    else if is "override" value then map (one: one // { inherit (value) priority; }) (values value.content)
    else if is "merge" value then concatMap values value.contents
    else [ { priority = 100; inherit value; } ];

  winning = path: type: definitions:
    let
      found = concatMap values definitions;
      least = foldl' (least: one: if one.priority < least then one.priority else least) 9999 found;
    in
    type.merge path (map (one: one.value) (filter (one: one.priority == least) found));

  one = name: check: {
    merge = path: all:
      if !check (head all) then throw "${path}: not a ${name}"
      else if foldl' (same: value: same && value == head all) true all then head all
      else throw "${path}: defined more than once";
  };
  types = rec {
    str = one "string" builtins.isString;
    int = one "number" builtins.isInt;
    port = int;
    bool = one "boolean" builtins.isBool;
    anything = { merge = path: all: head all; };
    path = anything;
    package = anything;
    lines = { merge = path: all: builtins.concatStringsSep "\n" all; };
    nullOr = type: { merge = path: all: if head all == null then null else type.merge path all; };
    listOf = type: { merge = path: all: map (value: winning path type [ value ]) (concatLists all); };
    attrsOf = type: {
      merge = path: all:
        genAttrs (concatMap attrNames (concatMap sets all)) (name:
          winning "${path}.${name}" type (concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) (concatMap sets all)));
    };
    submodule = module: {
      merge = path: all: (evalModules { modules = [ module ] ++ map (config: { inherit config; }) all; prefix = path; }).config;
    };
    enum = names: one "one of ${toString names}" (value: elem value names);
  };

  evalModules = arguments@{ modules, specialArgs ? { }, prefix ? "" }:
    fix (self:
      let
        given = specialArgs // {
          inherit (self) config options;
          inherit lib;
          extendModules = self.extendModules;
        } // (self.config._module.args or { });
        # As nixpkgs does: the names of the arguments are known, their values only when they are used.
        call = module: module (specialArgs // {
          inherit (self) config options;
          inherit lib;
          inherit (self) extendModules;
          pkgs = self.config._module.args.pkgs;
        });
        read = module: if isFunction module then call module else if isAttrs module then module else read (import module);
        plain = module: if module ? config || module ? options then module else {
          imports = module.imports or [ ];
          config = removeAttrs module [ "imports" ];
        };
        collected = concatMap (module: let it = plain (read module); in [ it ] ++ collectedOf (it.imports or [ ])) modules;
        collectedOf = concatMap (module: let it = plain (read module); in [ it ] ++ collectedOf (it.imports or [ ]));
        evaluate = path: options: definitions:
          let unknown = filter (name: !(options ? ${name})) (concatMap attrNames definitions); in
          if unknown != [ ] then throw "The option `${path}${head unknown}' does not exist."
          else mapAttrs (name: option:
            let found = concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) definitions; in
            if is "option" option then
              (if concatMap values found == [ ] then option.default or (throw "The option `${path}${name}' has no value.")
               else (option.apply or (x: x)) (winning "${path}${name}" option.type found))
            else evaluate "${path}${name}." option (concatMap sets found)) options;
      in
      {
        options = foldl' (all: module: merged all (module.options or { })) { } collected;
        config = evaluate (if prefix == "" then "" else "${prefix}.") self.options (concatMap (module: sets (module.config or { })) collected);
        extendModules = more: evalModules (arguments // { modules = modules ++ more.modules; });
      });

  lib = {
    inherit evalModules fix genAttrs mkDefault mkEnableOption mkForce mkIf mkMerge mkOption optionalAttrs types;
    inherit (builtins) attrNames attrValues concatLists concatMap concatStringsSep filter foldl' head mapAttrs;
    recursiveUpdate = merged;
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalString = condition: text: if condition then text else "";
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
    concatMapStringsSep = between: f: list: builtins.concatStringsSep between (map f list);
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    fakeHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    licenses.asl20 = "Apache-2.0";
    cleanSource = source: source;
    fileContents = file: builtins.readFile file;
    escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  };
in
lib
