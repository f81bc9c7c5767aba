//go:build tools

// Package tools pins the ssh-to-age that the tests compare with; `go install` does not find its v1.3.0.
package tools

import _ "github.com/Mic92/ssh-to-age/cmd/ssh-to-age"
