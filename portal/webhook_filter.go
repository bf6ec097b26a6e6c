package portal

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
)

// filterRows is how many fields the form has room for at least; it always has an empty one, up to the limit.
const filterRows = 3

// filterRow is a field of a filter in a form, with its values one a line.
type filterRow struct{ Field, Values string }

// All are its values.
func (r filterRow) All() []string { return strings.Split(r.Values, "\n") }

// lines are its values without what is blank. A browser takes a carriage return for the end of a line, too.
func (r filterRow) lines() (values []string) {
	for line := range strings.FieldsFuncSeq(r.Values, func(c rune) bool { return c == '\n' || c == '\r' }) {
		if line = strings.TrimSpace(line); line != "" {
			values = append(values, line)
		}
	}
	return values
}

// fieldGroup is fields that a filter can name, under one heading.
type fieldGroup struct {
	Label  string
	Fields []choice
}

// FilterRows are the fields of the webhook's filter, in order.
func (v webhookView) FilterRows() (rows []filterRow) {
	filter := subscriptions.FilterOf(v.Webhook)
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		values := make([]string, len(filter[name]))
		for i, value := range filter[name] {
			values[i] = value.String()
		}
		rows = append(rows, filterRow{name, strings.Join(values, "\n")})
	}
	return rows
}

// sentRows are the rows of a form that was sent.
func sentRows(f url.Values) (rows []filterRow) {
	for i, field := range f["filterField"] {
		row := filterRow{Field: field}
		if values := f["filterValues"]; i < len(values) {
			row.Values = values[i]
		}
		if row.Field != "" || strings.TrimSpace(row.Values) != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

// withRoom adds empty rows.
func withRoom(rows []filterRow) []filterRow {
	rows = append(rows, filterRow{})
	for len(rows) < filterRows {
		rows = append(rows, filterRow{})
	}
	return rows[:min(len(rows), webhook.MaxFilterFields)]
}

// textsOf are the values of rows, without what is blank.
func textsOf(rows []filterRow) (map[string][]string, error) {
	texts := map[string][]string{}
	for _, row := range rows {
		values := row.lines()
		switch {
		case row.Field == "":
			return nil, webhook.Invalid("filter", "needs the field that the values are of")
		case len(values) == 0:
			return nil, webhook.Invalid("filter", webhook.Shorten(row.Field)+" needs a value")
		}
		texts[row.Field] = append(texts[row.Field], values...)
	}
	return texts, nil
}

// readFilter reads the filter of a form, by what the catalog says of the chosen event types.
func readFilter(f url.Values) (webhook.Filter, error) {
	texts, err := textsOf(sentRows(f))
	if err != nil {
		return nil, err
	}
	return webhook.TextFilter(texts, typesOf(f["events"]))
}

// setFilter reads a form's filter into an input, unless it is what the form of the webhook had: not every value can stand in a line.
func setFilter(in *subscriptions.Input, f url.Values, v *webhookView) (err error) {
	if v != nil {
		same := func(a, b filterRow) bool { return a.Field == b.Field && slices.Equal(a.lines(), b.lines()) }
		if slices.EqualFunc(v.FilterRows(), sentRows(f), same) {
			return nil
		}
	}
	in.SetFilter = true
	in.Filter, err = readFilter(f)
	return err
}

func typesOf(names []string) []webhook.EventType {
	types := make([]webhook.EventType, len(names))
	for i, name := range names {
		types[i] = webhook.EventType(name)
	}
	return types
}

// fieldGroups are the fields that a filter can name: those of the chosen event types, and others.
func fieldGroups(chosen []string) []fieldGroup {
	known := webhook.FilterFields(typesOf(chosen))
	of := fieldGroup{Label: "Fields of the chosen event types"}
	others := fieldGroup{Label: "Fields of other event types"}
	if len(known) == 0 { // nothing is chosen yet
		others.Label = "Fields"
	}
	for _, f := range webhook.FilterFields(webhook.Subscribable()) {
		if n := slices.IndexFunc(known, func(k webhook.FilterField) bool { return k.Name == f.Name }); n >= 0 {
			of.Fields = append(of.Fields, optionOf(known[n]))
		} else {
			others.Fields = append(others.Fields, optionOf(f))
		}
	}
	return slices.DeleteFunc([]fieldGroup{of, others}, func(g fieldGroup) bool { return len(g.Fields) == 0 })
}

func optionOf(f webhook.FilterField) choice {
	names := make([]string, len(f.Types))
	for i, t := range f.Types {
		names[i] = string(t)
	}
	return choice{f.Name, f.Name + " (" + strings.Join(names, ", ") + ")"}
}

// previewFilter shows the form again, with how many of the last events its filter lets pass.
func (p *portal) previewFilter(w http.ResponseWriter, r *http.Request, s *session, v *webhookView) error {
	filter, err := readFilter(r.PostForm)
	if err != nil {
		return p.showAgain(w, r, s, v, err)
	}
	preview, err := p.Webhooks.Preview(r.Context(), s.BotID, r.PostForm["events"], filter)
	if err != nil {
		return p.showAgain(w, r, s, v, err)
	}
	return p.showFilled(w, r, s, v, withoutSecrets(form{Values: r.PostForm, Errors: map[string]string{}}), http.StatusOK, &preview)
}
