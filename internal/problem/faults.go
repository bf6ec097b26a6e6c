package problem

import (
	"errors"
	"slices"

	"github.com/mathub/webhooks/webhook"
)

// Faults gathers what is wrong with the fields of an input.
type Faults struct{ fields []webhook.FieldError }

// Add notes what is wrong with a field.
func (f *Faults) Add(field, message string) {
	f.fields = append(f.fields, webhook.FieldError{Field: field, Message: message})
}

// Check notes the fields of a *webhook.InvalidError.
func (f *Faults) Check(err error) {
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		f.fields = append(f.fields, input.Fields...)
	}
}

// CheckAs is Check for a rule that knows the field under another name.
func (f *Faults) CheckAs(field string, err error) {
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		for _, of := range input.Fields {
			f.Add(field, of.Message)
		}
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
			f.fields = append(f.fields, of)
		}
	}
}

// Any says whether anything was wrong.
func (f *Faults) Any() bool { return len(f.fields) > 0 }

// Err is a *webhook.InvalidError when anything was wrong.
func (f *Faults) Err() error {
	if !f.Any() {
		return nil
	}
	return &webhook.InvalidError{Fields: f.fields}
}
