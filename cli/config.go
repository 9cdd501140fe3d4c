package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// configure gives the flags that were not set the values of the environment
// or the settings file.
func (a *app) configure(cmd *cobra.Command) error {
	if v := os.Getenv(envName("config")); v != "" && !cmd.Flags().Changed("config") {
		a.config = v
	}
	settings, err := readSettings(a.config)
	if err != nil {
		return err
	}
	if err := checkSettings(cmd.Root(), settings); err != nil {
		return err
	}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" {
			return
		}
		value, from := os.Getenv(envName(f.Name)), envName(f.Name)
		if value == "" {
			v, ok := settings[f.Name]
			if !ok {
				return
			}
			value, from = fmt.Sprint(v), "the settings file"
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = errors.Join(failed, usageError{fmt.Errorf("%s: %s: %w", from, f.Name, err)})
		}
	})
	return failed
}

func envName(flag string) string {
	return "DEED_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func readSettings(path string) (map[string]any, error) {
	asked := path != ""
	if !asked {
		path = "deed.json"
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !asked {
		return nil, nil
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("the settings file: %w", err)}
	}
	var settings map[string]any
	if err := json.Unmarshal(data, &settings); err != nil {
		return nil, usageError{fmt.Errorf("the settings file %s is not a JSON object: %w", path, err)}
	}
	return settings, nil
}

// checkSettings refuses settings that no command has: a typing error should
// not go unnoticed.
func checkSettings(root *cobra.Command, settings map[string]any) error {
	var known []string
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	for name := range settings {
		if !slices.Contains(known, name) {
			slices.Sort(known)
			return usageError{fmt.Errorf("the settings file has %q, which is no flag; flags are %s", name, strings.Join(slices.Compact(known), ", "))}
		}
	}
	return nil
}
