package api

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// operation is one call, or one event that endpoints receive.
type operation struct {
	node
	Method, Path string
	Parameters   []node
	Curl         string // empty of events
}

// group is the operations of one tag.
type group struct {
	Tag        node
	Operations []operation
}

func (n node) groups() (groups []group) {
	for _, tag := range n.At("tags").Each() {
		g := group{Tag: tag}
		for _, section := range []string{"paths", "webhooks"} {
			for _, path := range n.At(section).Each() {
				for _, op := range path.Each() {
					if tags := op.At("tags").Each(); len(tags) == 0 || tags[0].Text() != tag.At("name").Text() {
						continue
					}
					o := operation{node: op, Method: strings.ToUpper(op.Key), Path: path.Key, Parameters: append(path.At("parameters").Each(), op.At("parameters").Each()...)}
					if section == "paths" {
						o.Curl = o.curl()
					}
					g.Operations = append(g.Operations, o)
				}
			}
		}
		groups = append(groups, g)
	}
	return groups
}

// ID names the operation, in links to it too.
func (o operation) ID() string { return o.At("operationId").Text() }

// Title is its name in words: "List webhooks" of listWebhooks. An event is titled by its type.
func (o operation) Title() string {
	if o.Curl == "" {
		return o.Path
	}
	var b strings.Builder
	upper := false
	for i, r := range o.ID() {
		switch {
		case i == 0:
			r = unicode.ToUpper(r)
		case unicode.IsUpper(r) && !upper:
			b.WriteByte(' ')
			if strings.ToUpper(o.ID()[i:]) != o.ID()[i:] { // not an abbreviation at the end
				r = unicode.ToLower(r)
			}
		}
		upper = unicode.IsUpper(r)
		b.WriteRune(r)
	}
	return b.String()
}

// samples are the document's sample values that a reader has to replace, by the shell variable that stands for them in calls.
var samples = []struct{ value, variable, own string }{
	{"https://bots.example.org/mathub", "WEBHOOK_URL", "https://bots.example.org/mathub"},
	{"2025-03-20T10:30:00.000Z", "SINCE", "$(date -u +%Y-%m-%dT00:00:00.000Z)"},
	{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "WEBHOOK_SECRET", `"whsec_$(openssl rand -base64 32)"`}, // nobody's but the reader's
}

// curl is the call as it can be pasted into bash and zsh after the lines of setup.
func (o operation) curl() string {
	line := "curl"
	if o.Method != http.MethodGet {
		line += " -X " + o.Method
	}
	line += ` "$MATHUB_API` + o.shellPath() + `"`
	for _, needed := range o.At("security").Each() {
		if needed.At("botKey").value != nil {
			line += ` -H "Authorization: Bearer $MATHUB_BOT_KEY"`
		} else {
			line += ` -H "Authorization: Bearer $MATHUB_SERVICE_TOKEN"`
		}
	}
	for _, body := range o.At("requestBody").At("content").Each() {
		line += " \\\n  -H 'Content-Type: " + body.Key + "'"
		for _, example := range body.Examples()[:1] {
			example = strings.ReplaceAll(example, "'", `'\''`)
			for _, s := range samples {
				example = strings.ReplaceAll(example, s.value, `'"$`+s.variable+`"'`)
			}
			line += " \\\n  -d '" + example + "'"
		}
	}
	return line
}

// shellPath is the path with shell variables for its parameters, and with the query that it must have.
func (o operation) shellPath() string {
	path, sep := o.Path, "?"
	for _, p := range o.Parameters {
		name := p.At("name").Text()
		switch {
		case p.At("in").Text() == "path":
			path = strings.ReplaceAll(path, "{"+name+"}", "$"+o.variable(name))
		case p.At("in").Text() == "query" && p.At("required").Text() == "true":
			path, sep = path+sep+name+"=$"+o.variable(name), "&"
		}
	}
	return path
}

// variable is the shell variable of a parameter: KEY_ID of keyId. That of a plain id is of what its path says before it:
// WEBHOOK_ID of …/webhooks/{id}.
func (o operation) variable(parameter string) string {
	if parameter == "id" {
		before, _, _ := strings.Cut(o.Path, "/{id}")
		parameter = singular(before[strings.LastIndex(before, "/")+1:]) + "Id"
	}
	var b strings.Builder
	for _, r := range parameter {
		if unicode.IsUpper(r) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// singular is one of what a path's part names: webhook of webhooks, recovery of recoveries.
func singular(many string) string {
	if one, is := strings.CutSuffix(many, "ies"); is {
		return one + "y"
	}
	return strings.TrimSuffix(many, "s")
}

// setup sets every variable that a call's line has.
func setup(groups []group) string {
	lines := []string{
		"export MATHUB_API=http://127.0.0.1:8080",
		"export MATHUB_BOT_KEY=bot_…",
		"export MATHUB_SERVICE_TOKEN=…",
	}
	for _, s := range samples {
		lines = append(lines, "export "+s.variable+"="+s.own)
	}
	for _, g := range groups {
		for _, o := range g.Operations {
			for _, p := range o.Parameters {
				if in := p.At("in").Text(); o.Curl == "" || in != "path" && (in != "query" || p.At("required").Text() != "true") {
					continue
				}
				line := "export " + o.variable(p.At("name").Text()) + "=…"
				if !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
	}
	return strings.Join(lines, "\n")
}
