package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// filterTexts reads --filter: FIELD=VALUE,VALUE. A value with a comma, or a space before it, stands in quotes, as in CSV. A field that is given again has
// more values. It is nil for none.
func filterTexts(flags []string) (map[string][]string, error) {
	var texts map[string][]string
	for _, flag := range flags {
		field, list, ok := strings.Cut(flag, "=")
		if field = strings.TrimSpace(field); !ok || field == "" || strings.ContainsAny(list, "\r\n") {
			return nil, usageError{errors.New("--filter needs FIELD=VALUE,VALUE")}
		}
		values := []string{""} // which CSV has no line for
		if list != "" {
			reader := csv.NewReader(strings.NewReader(list))
			reader.LazyQuotes, reader.TrimLeadingSpace = true, true
			var err error
			if values, err = reader.Read(); err != nil {
				return nil, usageError{fmt.Errorf("--filter %s: %w", field, err)}
			}
		}
		if texts == nil {
			texts = map[string][]string{}
		}
		texts[field] = append(texts[field], values...)
	}
	return texts, nil
}

// filterOf is what --filter says, by what the catalog says of the fields. Of what this release does not know, the API tells.
func filterOf(flags []string) (mathub.Filter, error) {
	texts, err := filterTexts(flags)
	if texts == nil || err != nil {
		return nil, err
	}
	typed, err := webhook.TextFilter(texts, webhook.Subscribable())
	if err != nil {
		return nil, usageError{err}
	}
	filter := mathub.Filter{}
	for field, values := range typed {
		for _, v := range values {
			filter[field] = append(filter[field], v)
		}
	}
	return filter, nil
}

// setFilter has a call read only the events that --filter lets pass.
func setFilter(params *mathub.PollEventsParams, flags []string) error {
	texts, err := filterTexts(flags)
	if err != nil {
		return err
	}
	if err := params.SetFilter(texts); err != nil {
		return usageError{err}
	}
	return nil
}

// filterText is a filter as a person reads it.
func filterText(filter mathub.Filter) string {
	if len(filter) == 0 {
		return "-"
	}
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		values := make([]string, len(filter[name]))
		for i, v := range filter[name] {
			values[i] = fmt.Sprint(v)
			if number, is := v.(float64); is { // as JSON was decoded; fmt makes 1e+06 of a million
				values[i] = strconv.FormatFloat(number, 'f', -1, 64)
			}
		}
		fields = append(fields, name+"="+strings.Join(values, ","))
	}
	return strings.Join(fields, "; ")
}
