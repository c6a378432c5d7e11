import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpFilter;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.EnumSet;
import java.util.Map;
import jakarta.servlet.DispatcherType;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.servlet.FilterHolder;
import org.eclipse.jetty.servlet.ServletContextHandler;
import org.eclipse.jetty.servlet.ServletHolder;

/**
 * The REST catalog of Apache Iceberg itself, over a JDBC catalog in a file of SQLite.
 *
 * <p>Its own program listens on all addresses and lets everybody in. This one listens on loopback,
 * at a port, and asks for one of the tokens that it is given: {@code java Catalog.java PORT FILE
 * WAREHOUSE TOKEN...}. Without a token everybody is let in.
 */
public class Catalog {
  public static void main(String[] words) throws Exception {
    JdbcCatalog catalog = new JdbcCatalog();
    catalog.setConf(new Configuration());
    catalog.initialize(
        "rest",
        Map.of(
            "uri", "jdbc:sqlite:" + words[1],
            "warehouse", words[2],
            "jdbc.schema-version", "V1"));
    ServletContextHandler context = new ServletContextHandler(ServletContextHandler.NO_SESSIONS);
    context.setContextPath("/");
    EnumSet<DispatcherType> requests = EnumSet.of(DispatcherType.REQUEST);
    context.addFilter(new FilterHolder(new Guard(words)), "/*", requests);
    RESTCatalogAdapter adapter = new RESTCatalogAdapter(catalog);
    context.addServlet(new ServletHolder(new RESTCatalogServlet(adapter)), "/*");
    Server server =
        new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(words[0])));
    server.setHandler(context);
    server.start();
    server.join();
  }

  /** Lets nobody in but those who have a token, and those who ask for one. */
  static class Guard extends HttpFilter {
    private final String[] words;

    Guard(String[] words) {
      this.words = words;
    }

    @Override
    protected void doFilter(
        HttpServletRequest request, HttpServletResponse response, FilterChain chain)
        throws IOException, ServletException {
      String told = request.getHeader("Authorization");
      boolean isKnown = words.length == 3 || request.getRequestURI().endsWith("/oauth/tokens");
      for (int at = 3; at < words.length; at++) {
        isKnown |= ("Bearer " + words[at]).equals(told);
      }
      if (isKnown) {
        chain.doFilter(request, response);
        return;
      }
      response.setStatus(401);
      response.setContentType("application/json");
      response
          .getWriter()
          .write(
              "{\"error\": {\"message\": \"not authorized\", \"type\": "
                  + "\"NotAuthorizedException\", \"code\": 401}}");
    }
  }
}
