package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionScripts ask the program itself, so that they know what it knows, whichever version it is.
var completionScripts = map[string]string{
	"bash": `_mathub_webhooks() {
  local IFS=$'\n'
  COMPREPLY=($(mathub-webhooks complete -- "${COMP_WORDS[@]:1:COMP_CWORD}"))
}
complete -o default -F _mathub_webhooks mathub-webhooks
`,
	"zsh": `#compdef mathub-webhooks
_mathub_webhooks() {
  local -a found
  found=(${(f)"$(mathub-webhooks complete -- "${(@)words[2,CURRENT]}")"})
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _mathub_webhooks mathub-webhooks
`,
	"fish": `complete -c mathub-webhooks -a '(mathub-webhooks complete -- (commandline -opc)[2..-1] (commandline -ct))'
`,
}

// Completion prints what makes a shell complete commands and flags.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

// Run prints the script.
func (c *Completion) Run() error {
	_, err := fmt.Print(completionScripts[c.Shell])
	return err
}

// Complete prints, one a line, what may stand for the last of some words of a command line.
type Complete struct {
	Words []string `arg:"" optional:"" passthrough:"" help:"The words after the program's name."`
}

// Run prints the candidates; none where the shell knows better, as for files.
func (c *Complete) Run(parser *kong.Kong) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, word := range candidates(parser.Model.Node, words) {
		fmt.Println(word)
	}
	return nil
}

// candidates are what may stand for the last of the words.
func candidates(node *kong.Node, words []string) (found []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	var before *kong.Flag // that the last word may be the value of
	for _, word := range words[:len(words)-1] {
		before = flagNamed(node, word)
		if child := childNamed(node, word); child != nil {
			node = child
		}
	}
	switch {
	case before != nil && !before.IsBool():
		found = before.EnumSlice()
	case strings.HasPrefix(last, "-"):
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				found = append(found, "--"+flag.Name)
			}
		}
	default:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
	}
	return slices.DeleteFunc(found, func(word string) bool { return word == "" || !strings.HasPrefix(word, last) })
}

func flagNamed(node *kong.Node, word string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			if word == "--"+flag.Name {
				return flag
			}
		}
	}
	return nil
}

func childNamed(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word {
			return child
		}
	}
	return nil
}
