// Command re2 answers, for patterns and texts on standard input, what Go's regexp makes of them: a JSON value a line,
// null for a pattern that is refused, else for each text whether it matches.
package main

import (
	"encoding/json"
	"os"
	"regexp"
)

type question struct {
	Pattern string
	Texts   []string
}

func main() {
	questions := json.NewDecoder(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for questions.More() {
		var asked question
		if err := questions.Decode(&asked); err != nil {
			panic(err)
		}
		expression, err := regexp.Compile(asked.Pattern)
		var matches []bool
		if err == nil {
			matches = make([]bool, len(asked.Texts))
			for at, text := range asked.Texts {
				matches[at] = expression.MatchString(text)
			}
		}
		if err := answers.Encode(matches); err != nil {
			panic(err)
		}
	}
}
