package problem

import (
	"errors"
	"slices"

	"github.com/mathub/webhooks/webhook"
)

// Faults gathers what is wrong with the fields of an input: the first webhook.MaxFieldErrors faults, and how many more there
// are. So a refusal has some KB, whatever the input is.
type Faults struct {
	fields []webhook.FieldError
	more   int
}

// Add notes what is wrong with a field. A long name, which the caller may have made up, is cut.
func (f *Faults) Add(field, message string) {
	if len(f.fields) == webhook.MaxFieldErrors {
		f.more++
		return
	}
	f.fields = append(f.fields, webhook.FieldError{Field: webhook.Shorten(field), Message: message})
}

// Check notes the fields of a *webhook.InvalidError.
func (f *Faults) Check(err error) {
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		for _, of := range input.Fields {
			f.Add(of.Field, of.Message)
		}
		f.more += input.More
	}
}

// CheckAs is Check for a rule that knows the field under another name.
func (f *Faults) CheckAs(field string, err error) {
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		for _, of := range input.Fields {
			f.Add(field, of.Message)
		}
		f.more += input.More
	}
}

// CheckOthers is Check for the fields of which nothing was wrong before.
func (f *Faults) CheckOthers(err error) {
	var input *webhook.InvalidError
	if !errors.As(err, &input) {
		return
	}
	for _, of := range input.Fields {
		if !slices.ContainsFunc(f.fields, func(known webhook.FieldError) bool { return known.Field == of.Field }) {
			f.Add(of.Field, of.Message)
		}
	}
	f.more += input.More
}

// Any says whether anything was wrong.
func (f *Faults) Any() bool { return len(f.fields) > 0 }

// Err is a *webhook.InvalidError when anything was wrong.
func (f *Faults) Err() error {
	if !f.Any() {
		return nil
	}
	return &webhook.InvalidError{Fields: f.fields, More: f.more}
}
