module.exports = {
  apps: [
    {
      name: "api",
      script: "./dist/server.js",
      instances: "max",
      exec_mode: "cluster",
      max_memory_restart: "500M",
      env: {
        NODE_ENV: "development",
        PORT: 3000,
      },
      env_production: {
        NODE_ENV: "production",
        PORT: 8080,
      },
      error_file: "./logs/err.log",
      out_file: "./logs/out.log",
      log_date_format: "YYYY-MM-DD HH:mm:ss Z",
      merge_logs: true,
    },
    {
      name: "worker",
      script: "./dist/worker.js",
      instances: 2,
      exec_mode: "fork",
      autorestart: true,
      watch: false,
      kill_timeout: 5000,
      restart_delay: 3000,
      max_restarts: 10,
      min_uptime: "60s",
      cron_restart: "0 3 * * *",
    },
  ],
};
