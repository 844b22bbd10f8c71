import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.net.Socket;

/** Pool PORT: four threads that accept from one listener, blocking. */
public class Pool {
    public static void main(String[] args) throws Exception {
        ServerSocket listener = new ServerSocket(Integer.parseInt(args[0]), 1024);
        for (int number = 0; number < 4; number++) {
            String body = String.format("hello from %08d\n", number);
            new Thread(() -> serve(listener, body)).start();
        }
        System.out.println("ready");
    }

    private static void serve(ServerSocket listener, String body) {
        while (true) {
            try (Socket client = listener.accept()) {
                client.setSoTimeout(30000);
                BufferedReader reader = new BufferedReader(
                    new InputStreamReader(client.getInputStream()));
                String line = reader.readLine();
                while (line != null && !line.isEmpty()) {
                    line = reader.readLine();
                }
                client.getOutputStream().write(
                    ("HTTP/1.0 200 OK\r\nContent-Length: " + body.length()
                        + "\r\n\r\n" + body).getBytes());
            } catch (IOException error) {
                error.printStackTrace();
            }
        }
    }
}
