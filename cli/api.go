package cli

import (
	"errors"
	"net/url"

	mathub "github.com/mathub/webhooks/clients/go"
)

// APIFlags say where the API is.
type APIFlags struct {
	API *url.URL `name:"api" env:"MATHUB_API" default:"http://127.0.0.1:8080" help:"The API's URL."`
}

// Validate refuses what no API can be at.
func (f APIFlags) Validate() error {
	if f.API == nil || f.API.Scheme != "http" && f.API.Scheme != "https" || f.API.Host == "" {
		return errors.New("--api (MATHUB_API, MATHUB_SERVICE_API) must be an http or https URL")
	}
	if f.API.RawQuery != "" || f.API.ForceQuery || f.API.Fragment != "" {
		return errors.New("--api (MATHUB_API, MATHUB_SERVICE_API) must be a URL without a query and a fragment")
	}
	return nil
}

// ServiceAPIFlags say where the service API is, which may have a listener of its own.
type ServiceAPIFlags struct {
	API *url.URL `name:"api" env:"MATHUB_SERVICE_API,MATHUB_API" default:"http://127.0.0.1:8080" help:"The service API's URL."`
}

// Validate refuses what no API can be at.
func (f ServiceAPIFlags) Validate() error { return APIFlags(f).Validate() }

// BotFlags say where the API is and hold a bot's key.
type BotFlags struct {
	APIFlags
	Key string `env:"MATHUB_BOT_KEY" required:"" help:"A key of the bot. Prefer the environment: other users of the machine can see the command line."`
}

// Validate refuses an empty key, which an environment may hold.
func (f BotFlags) Validate() error {
	if f.Key == "" {
		return errors.New("--key (MATHUB_BOT_KEY) is empty")
	}
	return f.APIFlags.Validate()
}

func (f BotFlags) client() (*mathub.Client, error) { return usage(mathub.New(f.API.String(), f.Key)) }

// ServiceFlags say where the service API is and hold its token.
type ServiceFlags struct {
	ServiceAPIFlags
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Prefer the environment to the command line."`
}

// Validate refuses an empty token, which an environment may hold.
func (f ServiceFlags) Validate() error {
	if f.ServiceToken == "" {
		return errors.New("--service-token (MATHUB_SERVICE_TOKEN) is empty")
	}
	return f.ServiceAPIFlags.Validate()
}

func (f ServiceFlags) client() (*mathub.Service, error) {
	return usage(mathub.NewService(f.API.String(), f.ServiceToken, mathub.WithOperator(userName())))
}

// usage makes a client's error one of the command line, which named the URL and the key.
func usage[T any](client *T, err error) (*T, error) {
	if err != nil {
		return nil, usageError{err}
	}
	return client, nil
}
