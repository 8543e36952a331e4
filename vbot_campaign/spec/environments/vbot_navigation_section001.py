"""The VBot walks to a target on a disc and stops there (MotrixArena navigation, section 001)."""

from __future__ import annotations

from vbot_campaign.spec.environments.declaration import EnvironmentDeclaration, RewardTerm, Setting

_SETTINGS = (
    Setting("spawn_inner_radius", 2.0, "Smallest distance of the spawn point from the target.", "m", 0.0, 11.0),
    Setting("spawn_outer_radius", 5.0, "Largest distance of the spawn point from the target.", "m", 0.1, 14.0),
    Setting(
        "target_radius", 3.0, "Targets are uniform in a disc of this radius; 0 fixes them at the centre.", "m", 0.0, 8.0
    ),
    Setting("platform_radius", 11.0, "Spawn points further from the centre are drawn again.", "m", 1.0, 12.0),
    Setting(
        "position_scale", 5.0, "Divisor of position error and distance in the observation.", "m", choices=(5.0, 12.0)
    ),
    Setting("episode_seconds", 10.0, "Length of the clock.", "s", 1.0, 120.0),
    Setting("reset_pose", "default", "Joint angles at reset.", choices=("default", "zero")),
    Setting(
        "collision",
        "full",
        "Collision shapes: feet and base boxes, or also thighs and calves.",
        choices=("fast", "full"),
    ),
    Setting("substeps", 1, "Physics steps in a control step of 10 ms.", choices=(1, 2, 4, 5)),
    Setting("desynchronise", True, "Start the first episodes at random points of the clock, in training."),
    Setting("speed_cap", 0.6, "Speed towards the target above which forward_velocity pays no more.", "m/s", 0.1, 5.0),
    Setting("braking_speed", 0.6, "Largest speed that near_target_speed allows.", "m/s", 0.05, 5.0),
    Setting("stop_window_steps", 1000, "Steps after the first arrival in which standing still pays.", "", 1, 12_000),
    Setting("braking_gain", 0.5, "Allowed speed per metre of distance in near_target_speed.", "1/s", 0.05, 5.0),
    Setting("noise_level", 0.0, "Factor on the noise of the observation; 0 is none, 1 is usual.", "", 0.0, 10.0),
    Setting("randomise_mass", 0.0, "Share by which the base's mass varies between episodes.", "", 0.0, 0.9),
    Setting("randomise_friction", 0.0, "Share by which the ground's friction varies between episodes.", "", 0.0, 0.9),
    Setting("randomise_strength", 0.0, "Share by which the motors' strength varies between episodes.", "", 0.0, 0.9),
    Setting("push_velocity", 0.0, "Largest velocity that a push adds, in any direction; 0 is none.", "m/s", 0.0, 5.0),
    Setting("push_interval_seconds", 4.0, "Time between two pushes of a robot.", "s", 0.1, 60.0),
)

_REWARDS = (
    RewardTerm("position_tracking", "navigation", 1.5, "exp(-d / 5)"),
    RewardTerm("fine_position_tracking", "navigation", 8.0, "exp(-d / 0.5) where d < 2.5", "after the first arrival"),
    RewardTerm("heading_tracking", "navigation", 0.8, "exp(-|wrap(bearing - yaw)| / 0.5)", "outside the goal"),
    RewardTerm(
        "forward_velocity", "navigation", 1.5, "clip(v . unit(target - position), -1, speed_cap)", "outside the goal"
    ),
    RewardTerm("distance_progress", "navigation", 1.5, "clip(1 - d / d_initial, -0.5, 1)", "outside the goal"),
    RewardTerm("alive_bonus", "navigation", 0.15, "1", "outside the goal"),
    RewardTerm(
        "approach_scale", "navigation", 30.0, "clip(weight * (d_previous - d), 0, 1), weight inside", "outside the goal"
    ),
    RewardTerm("arrival_bonus", "navigation", 100.0, "1, once per episode", "first step inside the goal"),
    RewardTerm("inner_fence_bonus", "navigation", 40.0, "1, once per episode", "first step with d < 0.75"),
    RewardTerm(
        "stop_scale",
        "navigation",
        5.0,
        "0.8 exp(-(v / 0.2)^2) + 1.2 exp(-(w_z / 0.1)^4)",
        "inside the goal, v < 0.3, up to stop_window_steps after the first arrival",
    ),
    RewardTerm("zero_ang_bonus", "navigation", 10.0, "1 where |w_z| < 0.05", "as stop_scale"),
    RewardTerm("near_target_speed", "navigation", -2.0, "max(0, v - clip(braking_gain * d, 0.05, braking_speed))^2"),
    RewardTerm(
        "departure_penalty", "navigation", -5.0, "d - d_previous where it grows by more than 0.01", "inside the goal"
    ),
    RewardTerm("boundary_penalty", "navigation", -3.0, "max(0, distance from the centre - 10)"),
    RewardTerm("orientation", "stability", -0.05, "g_x^2 + g_y^2"),
    RewardTerm("lin_vel_z", "stability", -0.3, "v_z^2"),
    RewardTerm("ang_vel_xy", "stability", -0.03, "w_x^2 + w_y^2"),
    RewardTerm("torques", "efficiency", -1.0e-5, "sum of squared applied torques"),
    RewardTerm("dof_vel", "efficiency", -5.0e-5, "sum of squared joint velocities"),
    RewardTerm("dof_acc", "efficiency", -2.0e-4, "sum of squared changes of joint velocity per step"),
    RewardTerm("action_rate", "efficiency", -0.1, "sum of squared changes of the filtered action"),
    RewardTerm("termination", "termination", -100.0, "1 on terminated steps"),
)

DECLARATION = EnvironmentDeclaration(
    name="vbot_navigation_section001",
    doc="Walk to a target on a flat disc within the clock, stop there, do not fall.",
    observation_size=54,
    action_size=12,
    control_dt_s=0.01,
    settings={setting.name: setting for setting in _SETTINGS},
    rewards={term.name: term for term in _REWARDS},
    physics=("mujoco", "motrixsim", "mujoco+motrixsim"),
)
