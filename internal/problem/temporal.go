package problem

import (
	"errors"

	"go.temporal.io/api/serviceerror"
)

// OfTemporal is how a failed call to Temporal is answered: what can pass is worth another try. Temporal may have done it, as its
// client gives up by itself.
func OfTemporal(err error) error {
	var refused *serviceerror.InvalidArgument
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return UnansweredBy("Temporal", err)
}
