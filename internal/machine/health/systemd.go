package health

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ashlar-os/ashlar/internal/machine/history"
	"github.com/ashlar-os/ashlar/internal/program"
)

// manager is what is asked of systemd.
type manager interface {
	show(ctx context.Context, unit string) (unitState, error)
	unitsIn(ctx context.Context, state string) ([]string, error)
	journal(ctx context.Context, unit string) []string // of this boot; "" is everything from warnings up
}

// unitState is what systemd says of a unit (org.freedesktop.systemd1(5)).
type unitState struct {
	ID, Load, Active, Sub, Result string
}

// checkTarget finds whether the default target was reached, whichever it is.
func (c *Checker) checkTarget(ctx context.Context) (reason string, lines []string) {
	u, err := c.manager().show(ctx, "default.target")
	if err != nil {
		return err.Error(), nil
	}
	if u.Active == "active" {
		return "", nil
	}
	reason = fmt.Sprintf("%s was not reached, it is %s", u.ID, u.Active)
	failed, err := c.manager().unitsIn(ctx, "failed")
	if err != nil || len(failed) == 0 {
		return reason, c.manager().journal(ctx, "")
	}
	return reason + "; failed: " + strings.Join(failed, " "), c.manager().journal(ctx, failed[0])
}

// checkUnit finds whether a required unit failed. One that is not active has
// not: it may have done its work, or a condition may have kept it from starting.
func (c *Checker) checkUnit(ctx context.Context, name string) (reason string, lines []string) {
	u, err := c.manager().show(ctx, name)
	if err != nil {
		return err.Error(), nil
	}
	switch {
	case u.Load == "masked":
		return "", nil // the administrator's choice
	case u.Load != "loaded":
		return "there is no such unit: " + u.Load, nil
	case u.Active == "failed":
		return fmt.Sprintf("it failed (%s)", u.Result), c.manager().journal(ctx, name)
	case u.Sub == "auto-restart" || u.Sub == "auto-restart-queued":
		return fmt.Sprintf("it ended and is started again and again (%s)", u.Result), c.manager().journal(ctx, name)
	}
	return "", nil
}

// systemd asks the one that runs.
type systemd struct{}

func (systemd) show(ctx context.Context, unit string) (unitState, error) {
	out, err := program.Run(ctx, program.Command{Args: []string{
		"systemctl", "show", "--no-pager", "--property=Id,LoadState,ActiveState,SubState,Result", "--", unit}})
	if err != nil {
		return unitState{}, fmt.Errorf("asking for %s: %w", unit, err)
	}
	return parseShow(string(out)), nil
}

// parseShow reads lines of KEY=VALUE.
func parseShow(text string) (u unitState) {
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "Id":
			u.ID = value
		case "LoadState":
			u.Load = value
		case "ActiveState":
			u.Active = value
		case "SubState":
			u.Sub = value
		case "Result":
			u.Result = value
		}
	}
	return u
}

func (systemd) unitsIn(ctx context.Context, state string) ([]string, error) {
	out, err := program.Run(ctx, program.Command{Args: []string{
		"systemctl", "list-units", "--no-pager", "--output=json", "--state=" + state}})
	if err != nil {
		return nil, fmt.Errorf("listing units: %w", err)
	}
	return parseUnits(out)
}

// ownUnits are at work when this is asked for.
const ownUnits = "ashlar-health"

func parseUnits(text []byte) (names []string, err error) {
	var list []struct {
		Unit string `json:"unit"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("listing units: %w", err)
	}
	for _, u := range list {
		if !strings.HasPrefix(u.Unit, ownUnits) {
			names = append(names, u.Unit)
		}
	}
	return names, nil
}

func (systemd) journal(ctx context.Context, unit string) []string {
	args := []string{"journalctl", "--boot", "--no-pager", "--quiet", "--no-hostname", "--output=short", "--lines=40"}
	if unit == "" {
		args = append(args, "--priority=warning")
	} else {
		args = append(args, "--unit="+unit)
	}
	out, err := program.Run(ctx, program.Command{Args: args})
	if err != nil {
		return nil // the failure itself is said without it
	}
	return history.Lines(string(out))
}
