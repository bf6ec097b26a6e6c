package cli

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"

	"github.com/alecthomas/kong"

	mathub "github.com/mathub/webhooks/clients/go"
)

// APIFlags say where the API is.
type APIFlags struct {
	API string `name:"api" env:"MATHUB_API" default:"http://127.0.0.1:8080" help:"The API's URL."`
}

// Validate refuses what no API can be at.
func (f APIFlags) Validate() error {
	u, err := url.Parse(f.API)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("--api (MATHUB_API, MATHUB_SERVICE_API) must be an http or https URL, such as http://127.0.0.1:8080")
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return errors.New("--api (MATHUB_API, MATHUB_SERVICE_API) must be a URL without a query and a fragment")
	}
	return nil
}

// ServiceAPIFlags say where the service API is, which may have a listener of its own.
type ServiceAPIFlags struct {
	API string `name:"api" env:"MATHUB_SERVICE_API,MATHUB_API" default:"http://127.0.0.1:8080" help:"The service API's URL."`
}

// Validate refuses what no API can be at.
func (f ServiceAPIFlags) Validate() error { return APIFlags(f).Validate() }

// BotFlags say where the API is and hold a bot's key.
type BotFlags struct {
	APIFlags
	Key string `env:"MATHUB_BOT_KEY" required:"" help:"A key of the bot. Prefer the environment: other users of the machine can see the command line."`
}

// Validate refuses an empty flag, and an empty key, which an environment may hold.
func (f BotFlags) Validate(command *kong.Context) error {
	if err := checkGiven(command); err != nil {
		return err
	}
	if f.Key == "" {
		return errors.New("--key (MATHUB_BOT_KEY) is empty")
	}
	return f.APIFlags.Validate()
}

func (f BotFlags) client() (*mathub.Client, error) { return usage(mathub.New(f.API, f.Key)) }

// ServiceFlags say where the service API is and hold its token.
type ServiceFlags struct {
	ServiceAPIFlags
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Prefer the environment to the command line."`
}

// Validate refuses an empty flag, and an empty token, which an environment may hold.
func (f ServiceFlags) Validate(command *kong.Context) error {
	if err := checkGiven(command); err != nil {
		return err
	}
	if f.ServiceToken == "" {
		return errors.New("--service-token (MATHUB_SERVICE_TOKEN) is empty")
	}
	return f.ServiceAPIFlags.Validate()
}

func (f ServiceFlags) client() (*mathub.Service, error) {
	return usage(mathub.NewService(f.API, f.ServiceToken, mathub.WithOperator(userName())))
}

// checkGiven refuses a flag that is given empty, as by a variable that is not set: it would count as one that is not given.
func checkGiven(command *kong.Context) error {
	for _, part := range command.Path {
		if part.Flag == nil {
			continue
		}
		value := part.Flag.Target
		if kind := value.Kind(); (kind == reflect.String || kind == reflect.Slice) && value.Len() == 0 {
			return fmt.Errorf("--%s is empty", part.Flag.Name)
		}
	}
	return nil
}

// usage makes a client's error one of the command line, which named the URL and the key.
func usage[T any](client *T, err error) (*T, error) {
	if err != nil {
		return nil, usageError{err}
	}
	return client, nil
}
